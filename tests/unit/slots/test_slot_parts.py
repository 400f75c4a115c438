from __future__ import annotations

import asyncio

import pytest

from okiba.adapters import slot_parts
from okiba.adapters.slot_parts import PACKAGES_IN_IMAGE, FolderParts, StoredParts, parts_for
from okiba.core.errors import SlotLost, StoreUnavailable
from okiba.core.function import Function, Layer
from okiba.core.layer import LayerArchive
from okiba.core.presign import Signer
from okiba.settings import Settings

SHA = "ab" * 32
PLAIN = Function("f", "python3.11", "app.handler", SHA, 1024, "r1", 0, "OKIAF")
LAYERED = Function("f", "python3.11", "app.handler", SHA, 1024, "r1", 0, "OKIAF", layer=Layer("1e", "six"))
SIGNER = Signer("http://store.example:9000", "key", "secret", "us-east-1")


class Records:
    """Layers' archives, and how often they were asked for."""

    def __init__(self, **archives):
        self.archives, self.asked, self.away = archives, 0, False

    async def archive(self, layer_hash):
        self.asked += 1
        if self.away:
            raise StoreUnavailable("Redis is away")
        return self.archives.get(layer_hash)


async def test_on_one_machine_parts_are_folders(tmp_path):
    told = await FolderParts(tmp_path).of(LAYERED)

    assert told["code"] == {"path": f"{tmp_path}/code/{SHA}"}
    assert told["layers"] == [{"path": f"{tmp_path}/layers/1e"}]
    assert told["packages"][0].startswith(f"{tmp_path}/layers/")


async def test_elsewhere_they_are_addresses_with_digests():
    told = await StoredParts(SIGNER, Records(**{"1e": LayerArchive("cd" * 32, 77)}).archive).of(LAYERED)

    assert (told["code"]["sha256"], told["code"]["size"]) == (SHA, 1024)
    assert told["code"]["url"].startswith(f"http://store.example:9000/okiba/code/{SHA}.zip?X-Amz-")
    [layer] = told["layers"]
    assert (layer["sha256"], layer["size"], layer["id"]) == ("cd" * 32, 77, "1e")
    assert layer["url"].startswith("http://store.example:9000/okiba/layers/1e.zip?X-Amz-")
    assert told["packages"] == [PACKAGES_IN_IMAGE]


async def test_what_a_warm_slot_can_have_is_what_the_function_s_slot_will_have():
    parts = StoredParts(SIGNER, Records(**{"1e": LayerArchive("cd" * 32, 77)}).archive, now_s=lambda: 1_795_363_200.0)

    ahead, order = await parts.ahead(LAYERED), await parts.of(LAYERED)

    assert ahead == {"layers": order["layers"], "packages": order["packages"]}


async def test_only_the_first_slot_of_a_layer_asks_for_its_digest():
    records = Records(**{"1e": LayerArchive("cd" * 32, 77)})
    parts = StoredParts(SIGNER, records.archive)

    for _ in range(3):
        await parts.of(LAYERED)
    await parts.of(PLAIN)

    assert records.asked == 1


async def test_a_layer_that_was_built_anew_is_noticed_beside_the_calls(monkeypatch):
    monkeypatch.setattr(slot_parts, "REREAD_S", -1.0)
    records = Records(**{"1e": LayerArchive("cd" * 32, 77)})
    parts = StoredParts(SIGNER, records.archive)
    await parts.of(LAYERED)
    records.archives["1e"] = LayerArchive("ef" * 32, 78)

    assert (await parts.of(LAYERED))["layers"][0]["sha256"] == "cd" * 32
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert (await parts.of(LAYERED))["layers"][0]["sha256"] == "ef" * 32


async def test_a_store_that_is_away_costs_nothing_that_is_known(monkeypatch):
    monkeypatch.setattr(slot_parts, "REREAD_S", -1.0)
    records = Records(**{"1e": LayerArchive("cd" * 32, 77)})
    parts = StoredParts(SIGNER, records.archive)
    await parts.of(LAYERED)
    records.away = True

    for _ in range(3):
        assert (await parts.of(LAYERED))["layers"][0]["sha256"] == "cd" * 32
        await asyncio.sleep(0)


async def test_a_layer_that_is_not_stored_is_the_platform_s_trouble():
    with pytest.raises(SlotLost, match="1e is not in the object store"):
        await StoredParts(SIGNER, Records().archive).of(LAYERED)


async def test_settings_decide_where_parts_are(tmp_path):
    records = Records()
    assert isinstance(parts_for(Settings(state_dir=tmp_path), records.archive), FolderParts)
    stored = parts_for(
        Settings(code_from="store", s3_endpoint="http://minio:9000", s3_function_endpoint="http://s3.example"),
        records.archive,
    )
    assert (await stored.of(PLAIN))["code"]["url"].startswith("http://s3.example/okiba/code/")
