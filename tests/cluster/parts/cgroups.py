"""The cluster's control groups (v1): everything of it runs below one name, so that nothing of it can be missed.

A group's members are the children of its members, too: ending all of a freezer group's processes ends what containerd
and the kubelet have started, whatever became of their parents.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.cluster.parts.waiting import until

HIERARCHIES: Final = Path("/sys/fs/cgroup")
FREEZER: Final = HIERARCHIES / "freezer"


def make_group(name: str) -> None:
    """A group of this name in every controller: the kubelet refuses a root that is missing in one of them."""
    for controller in _controllers():
        group = controller / name
        group.mkdir(parents=True, exist_ok=True)
        if (controller / "cpuset.cpus").exists():
            _copy_cpuset(group)


def members(name: str) -> list[int]:
    """The processes in this group and below it."""
    found: list[int] = []
    for file in (FREEZER / name).rglob("cgroup.procs"):
        with contextlib.suppress(OSError):  # a group that went away meanwhile had no members left
            found += [int(line) for line in file.read_text().split()]
    return found


def set_frozen(name: str, frozen: bool) -> None:
    """Stops, or lets run again, everything in this group at once; returns when it is so."""
    state = FREEZER / name / "freezer.state"
    state.write_text("FROZEN" if frozen else "THAWED")
    until(lambda: state.read_text().strip() == ("FROZEN" if frozen else "THAWED"), f"{name} to be {frozen=}")


def end_members(name: str) -> None:
    """Ends every process in this group and below it."""
    if not (FREEZER / name).is_dir():
        return
    for state in sorted((FREEZER / name).rglob("freezer.state")):
        state.write_text("THAWED")  # a frozen process does not die

    def none_left() -> bool:
        pids = members(name)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    until(none_left, f"the processes in {name} to end")


def remove_group(name: str) -> None:
    """Takes the empty group away, in every hierarchy: containers are in the one without controllers, too."""
    for hierarchy in HIERARCHIES.iterdir():
        groups = [hierarchy / name, *(hierarchy / name).rglob("*/")]
        for group in sorted(groups, key=lambda path: len(path.parts), reverse=True):
            until(partial(_removed, group), f"{group} to be free")


def _controllers() -> Iterator[Path]:
    """Each hierarchy once: `cpu` and `cpuacct` may be two names of one, or two."""
    yield from (path for path in HIERARCHIES.iterdir() if (path / "cgroup.procs").exists() and path.name != "unified")


def _copy_cpuset(group: Path) -> None:
    """A new group of this controller has no processors and no memory, and takes no process until it has."""
    path = group.relative_to(HIERARCHIES / "cpuset")
    for part in [*reversed(path.parents[:-1]), path]:
        folder = HIERARCHIES / "cpuset" / part
        for name in ("cpuset.cpus", "cpuset.mems"):
            (folder / name).write_text((folder.parent / name).read_text())


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # its last process is still on its way out
        return False
    return True
