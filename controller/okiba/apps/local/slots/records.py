"""slots/ID.json: what is known of each slot, for a controller that comes after this one.

A slot belongs to the supervisor's life in which it was made (its lifeline), not to the controller's. A process id alone
names nothing for long, so a record carries the start time too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from okiba.apps.local.processes import start_time
from okiba.apps.local.slots.cgroups import kill_group, remove_all, remove_group
from okiba.ports import SlotAddress

ENDING_S: Final = 3.0
"""How long slots get to end by themselves once their lifeline is cut."""


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """A slot's agent.

    Args:
        started: The agent's start time in clock ticks since boot.
        cgroup: Folder of the slot's memory cgroup; empty where none is writable.
        preload: What was to be imported before it was forked, comma-separated.
        preload_dropped: Why that was given up; empty when it was not.
    """

    address: SlotAddress
    pid: int
    started: int
    cgroup: str = ""
    preload: str = ""
    preload_dropped: str = ""

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return start_time(self.pid) == self.started

    @property
    def socket(self) -> Path:
        """Where the agent listens."""
        return Path(self.address.address.removeprefix("unix:"))

    def taken_by(self, function: str, revision: str) -> SlotRecord:
        """The record once the slot has become a function's."""
        return replace(self, address=replace(self.address, function=function, revision=revision))


def write_record(folder: Path, record: SlotRecord) -> None:
    """Stores it at once; not synced to disk, for no slot survives what a sync protects from."""
    path = folder / f"{record.address.id}.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(record)))
    fresh.replace(path)


def read_records(folder: Path) -> list[SlotRecord]:
    """Every readable record; what is not readable is of no use and removed."""
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text())
            records.append(SlotRecord(**{**document, "address": SlotAddress(**document["address"])}))
        except (OSError, ValueError, TypeError, KeyError):
            path.unlink(missing_ok=True)
    return records


def forget(folder: Path, record: SlotRecord) -> None:
    """Removes what an ended slot leaves behind: its record, its socket, its cgroup."""
    (folder / f"{record.address.id}.json").unlink(missing_ok=True)
    record.socket.unlink(missing_ok=True)
    if record.cgroup:
        remove_group(Path(record.cgroup))  # may still be emptying: the fleet looks for such again


def kill(record: SlotRecord) -> None:
    """Ends everything in the slot's process group and cgroup.

    The group bears the agent's process id, and outlives the agent as long as a process is in it; when all are gone, the
    id may come to be another's, so a record is killed once and then forgotten.
    """
    if start_time(record.pid) in (record.started, None):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(record.pid, signal.SIGKILL)
    if record.cgroup:
        kill_group(Path(record.cgroup))


def end_all(state_dir: Path) -> int:
    """Makes sure that no recorded slot runs any more, and nothing of one is left; returns how many had to be killed.

    For a supervisor, before its first controller starts and after its last has ended: agents have seen their lifeline
    cut and are on their way out, or hang.
    """
    folder = state_dir / "slots"
    deadline = time.monotonic() + ENDING_S
    records = read_records(folder)
    while any(record.alive for record in records) and time.monotonic() < deadline:
        time.sleep(0.01)
    stubborn = [record for record in records if record.alive]
    for record in stubborn:
        kill(record)
    for record in records:
        forget(folder, record)
    remove_all(state_dir)
    return len(stubborn)
