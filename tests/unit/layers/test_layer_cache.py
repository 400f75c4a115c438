"""The user's cache of layers stays within its bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from okiba.adapters.layer_cache import LayerCache

DAY_MS = 86_400_000
NOW = 1_800_000_000_000
KEPT_BYTES = 64 * 1024


@pytest.fixture
def cache(tmp_path: Path) -> LayerCache:
    return LayerCache(tmp_path / "cache", tmp_path / "state", max_bytes=3 * KEPT_BYTES)


def keep(tmp_path: Path, name: str, days_ago: float, size: int = KEPT_BYTES // 2) -> Path:
    folder = tmp_path / "cache" / name
    (folder / "python/module").mkdir(parents=True)
    (folder / "python/module/data").write_bytes(b"x" * size)
    at_s = (NOW - days_ago * DAY_MS) / 1000
    os.utime(folder, (at_s, at_s))
    return folder


def kept(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").iterdir()}


def test_what_was_not_used_for_a_month_goes(cache: LayerCache, tmp_path: Path):
    keep(tmp_path, "old", 30)
    keep(tmp_path, "young", 29)
    cache.trim(NOW)
    assert kept(tmp_path) == {"young"}


def test_where_there_is_too_much_what_was_used_last_stays(cache: LayerCache, tmp_path: Path):
    for number in range(6):
        keep(tmp_path, f"{number} days", number, KEPT_BYTES - 16 * 1024)
    cache.trim(NOW)
    assert kept(tmp_path) == {"0 days", "1 days", "2 days"}


def test_what_this_installation_has_counts_as_used(cache: LayerCache, tmp_path: Path):
    keep(tmp_path, "in use", 40)
    (tmp_path / "state/layers/in use").mkdir(parents=True)
    cache.trim(NOW)
    cache.trim(NOW + 29 * DAY_MS)
    assert kept(tmp_path) == {"in use"}


def test_what_a_killed_builder_left_goes_but_not_what_one_is_about(cache: LayerCache, tmp_path: Path):
    keep(tmp_path, ".left.17", 1)
    keep(tmp_path, ".begun.18", 0.01)
    cache.trim(NOW)
    assert kept(tmp_path) == {".begun.18"}


def test_a_cache_that_is_not_there_is_no_trouble(cache: LayerCache, tmp_path: Path):
    cache.trim(NOW)
    assert not (tmp_path / "cache").exists()
