"""Layers that nothing needs any more, on a real Valkey, a real folder and a real object store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import redis

from okiba.adapters.layer_retention import EVERY_MS, LayerRetention
from okiba.adapters.redis_layers import LayerBook, RedisLayers
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.s3_store import S3Store
from okiba.core.layer import layer_of
from tests.servers import ValkeyServer, minio

DAY_MS = 86_400_000
NOW = 1_800_000_000_000
SIX = layer_of("six==1.17.0", "python3.11", "linux-x86_64")
IDNA = layer_of("idna==3.10", "python3.11", "linux-x86_64")


@pytest.fixture
def layers(redis_link: RedisLink) -> RedisLayers:
    return RedisLayers(redis_link)


@pytest.fixture
def retention(layers: RedisLayers, tmp_path: Path) -> LayerRetention:
    return LayerRetention(tmp_path, layers, 7 * DAY_MS)


def build(state_dir: Path, layer_hash: str, at_ms: int = NOW) -> Path:
    folder = state_dir / "layers" / layer_hash
    (folder / "python").mkdir(parents=True)
    os.utime(folder, (at_ms / 1000, at_ms / 1000))
    return folder


async def test_a_layer_goes_a_week_after_the_last_function_that_needed_it(
    retention: LayerRetention, layers: RedisLayers, tmp_path: Path
):
    await layers.want(SIX, "python3.11", NOW)
    folder = build(tmp_path, SIX.hash)
    await retention.sweep(lambda: {SIX.hash}, NOW + 10 * DAY_MS)
    await retention.sweep(set, NOW + 16 * DAY_MS)
    assert folder.is_dir()
    await retention.sweep(set, NOW + 17 * DAY_MS)
    assert not folder.exists()
    assert await layers.read(SIX.hash) is None
    assert await layers.known() == []
    assert list((tmp_path / "layers").iterdir()) == []


async def test_what_is_needed_stays_however_old_it_is(retention: LayerRetention, layers: RedisLayers, tmp_path: Path):
    await layers.want(SIX, "python3.11", NOW)
    folder = build(tmp_path, SIX.hash)
    await retention.sweep(lambda: {SIX.hash}, NOW + 100 * DAY_MS)
    assert folder.is_dir()
    assert await layers.read(SIX.hash) is not None


async def test_a_function_that_comes_at_the_last_moment_keeps_its_layer(
    retention: LayerRetention, layers: RedisLayers, tmp_path: Path
):
    await layers.want(SIX, "python3.11", NOW)
    folder = build(tmp_path, SIX.hash)
    answers = iter([set(), {SIX.hash}])
    await retention.sweep(lambda: next(answers), NOW + 100 * DAY_MS)
    assert folder.is_dir()
    assert await layers.read(SIX.hash) is not None


async def test_a_layer_that_nobody_could_build_is_wanted_no_more(
    retention: LayerRetention, layers: RedisLayers, redis_link: RedisLink
):
    await layers.want(SIX, "python3.11", NOW)
    await retention.sweep(set, NOW + 8 * DAY_MS)
    assert await redis_link.call("KEYS", "okiba:layer*") == []


async def test_a_folder_whose_record_is_lost_counts_from_when_it_was_made(retention: LayerRetention, tmp_path: Path):
    old, young = build(tmp_path, "old", NOW - 8 * DAY_MS), build(tmp_path, "young", NOW - DAY_MS)
    await retention.sweep(set, NOW)
    assert (old.exists(), young.exists()) == (False, True)


async def test_it_looks_once_an_hour(retention: LayerRetention, layers: RedisLayers):
    asked: list[int] = []

    def needed() -> set[str]:
        asked.append(1)
        return set()

    await retention.sweep(needed, NOW)
    once = len(asked)
    await retention.sweep(needed, NOW + EVERY_MS - 1)
    assert len(asked) == once
    await retention.sweep(needed, NOW + EVERY_MS)
    assert len(asked) > once


async def test_what_a_job_writes_of_a_forgotten_layer_is_no_intent(layers: RedisLayers, valkey: ValkeyServer):
    await layers.want(SIX, "python3.11", NOW)
    await layers.forget(SIX.hash)
    with redis.Redis(unix_socket_path=valkey.socket) as client:
        LayerBook(client).ready(SIX.hash, NOW)
    assert await layers.read(SIX.hash) is None
    await layers.want(SIX, "python3.11", NOW)
    assert await layers.read(SIX.hash) is not None


async def test_its_copy_in_the_object_store_goes_too(layers: RedisLayers, tmp_path: Path):
    (tmp_path / "minio").mkdir()
    with minio(tmp_path / "minio") as server:
        store = S3Store(server.endpoint, server.endpoint, server.access_key, server.secret_key, "us-east-1")
        for layer in (SIX, IDNA):
            await layers.want(layer, "python3.11", NOW)
            store.put_bytes(f"layers/{layer.hash}.zip", b"PK")
        await LayerRetention(tmp_path, layers, 7 * DAY_MS, store).sweep(lambda: {IDNA.hash}, NOW + 8 * DAY_MS)
        assert [store.exists(f"layers/{layer.hash}.zip") for layer in (SIX, IDNA)] == [False, True]
