import pytest

from okiba.adapters.slot_http import HttpSlot, Telemetry
from okiba.adapters.slot_opener import HttpSlotOpener
from okiba.adapters.slot_parts import FolderParts
from okiba.core.names import Home
from okiba.ports import SlotAddress
from tests.fakes.logs import MemoryLogs

BEAT = Telemetry("idle", "", 0, 0, 0, b"", ("json",), None)


@pytest.mark.parametrize(
    ("kind", "expected"), [("python3.11+abc", [("abc", ("json",))]), ("python3.11", []), ("python3.11+", [])]
)
async def test_modules_are_learned_for_layers_alone(tmp_path, kind, expected):
    learned = []

    def learn(layer_hash, modules):
        learned.append((layer_hash, modules))

    home = Home("us-east-1", "0" * 12)
    parts, logs = FolderParts(tmp_path), MemoryLogs(1_000)
    opener = HttpSlotOpener(lambda _: 1, "ab" * 32, parts, home, lambda _: None, {}, logs, learn)
    slot = HttpSlot(SlotAddress("s1", kind, "unix:/nowhere", "f", "r1"), "", opener._on_telemetry, lambda _: None)
    await opener._on_telemetry(slot, BEAT)
    assert learned == expected
