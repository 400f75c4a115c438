"""Memory cgroups for slots, where this user may make them: version 1's memory hierarchy, or version 2.

Without one the agent watches its slot's memory itself, every 20 ms. A group belongs to one slot; its limit is the
agent's to set, once it knows the function. `Root` is this installation's folder of groups, below the group that the
process itself is in, so that limits set from outside hold for slots too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from okiba.core.errors import Unsupported

EMPTY_S: Final = 1.0
"""How long groups whose processes were killed may take to be empty."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where memory is accounted for.

    Args:
        own: The folder of the group that this process is in.
        version: 1 or 2.
    """

    own: Path
    version: int

    @property
    def limit_file(self) -> str:
        """The file that a group's limit is written to."""
        return "memory.limit_in_bytes" if self.version == 1 else "memory.max"


def hierarchy(proc: Path = Path("/proc/self")) -> Hierarchy:
    """The hierarchy that accounts for this process's memory.

    Raises:
        Unsupported: None does, or it is not mounted where this process can see it.
    """
    groups = dict(_own_groups(proc))
    for name, version in (("memory", 1), ("", 2)):
        for mount, root in _mounts(proc, "cgroup" if version == 1 else "cgroup2", name):
            if name in groups:
                own = mount / os.path.relpath(groups[name], root)
                if version == 1 or "memory" in (own / "cgroup.controllers").read_text().split():
                    return Hierarchy(own, version)
    raise Unsupported("no cgroup hierarchy accounts for memory here")


class Root:
    """The groups of one installation."""

    def __init__(self, folder: Path, version: int) -> None:
        self._folder = folder
        self._version = version

    @classmethod
    def make(cls, name: str) -> Root:
        """A folder for groups, in which limits have been seen to work.

        Args:
            name: `name_of` a state folder; other names are for trying it out.

        Raises:
            Unsupported: This user may not; the message says what stood in the way.
        """
        found = hierarchy()
        folder = found.own / name
        try:
            folder.mkdir(exist_ok=True)
            if found.version == 2:
                _delegate_memory(found.own)
                _delegate_memory(folder)
            probe = folder / "probe"
            probe.mkdir(exist_ok=True)
            (probe / found.limit_file).write_text(str(64 * 1024 * 1024))
            probe.rmdir()
        except OSError as error:
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise Unsupported(f"no memory cgroup can be made in {found.own}: {error.strerror}") from error
        return cls(folder, found.version)

    def group(self, slot: str) -> Path:
        """A new group for a slot."""
        path = self._folder / slot
        path.mkdir()
        return path

    def others(self, kept: set[str]) -> list[Path]:
        """Groups of no slot that is known."""
        return [path for path in self._folder.iterdir() if path.is_dir() and path.name not in kept]

    def close(self) -> None:
        """Removes the folder if no group is left in it."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def name_of(state_dir: Path) -> str:
    """What the installation's folder of groups is called."""
    return f"okiba-{sha256(str(state_dir).encode()).hexdigest()[:12]}"


def remove_all(state_dir: Path) -> None:
    """Removes every group of an installation whose slots have ended; the kernel may need a moment to let go of them."""
    deadline = time.monotonic() + EMPTY_S
    with contextlib.suppress(Unsupported):
        folder = hierarchy().own / name_of(state_dir)
        while not remove_group(folder) and time.monotonic() < deadline:
            time.sleep(0.01)


def kill_group(group: Path) -> None:
    """Ends every process in a group and below it."""
    for members in [group / "cgroup.procs", *group.glob("**/cgroup.procs")]:
        with contextlib.suppress(OSError):
            for pid in members.read_text().split():
                os.kill(int(pid), signal.SIGKILL)


def remove_group(group: Path) -> bool:
    """Removes a group and those below it; False while a process is left in one of them."""
    if not group.exists():
        return True
    try:
        for child in [path for path in group.iterdir() if path.is_dir()]:
            remove_group(child)
        group.rmdir()
    except OSError:
        return False
    return True


def _own_groups(proc: Path) -> list[tuple[str, str]]:
    """Pairs of a controller ("" is version 2) and the group that this process is in."""
    pairs = []
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        pairs += [(controller, path) for controller in controllers.split(",")]
    return pairs


def _mounts(proc: Path, kind: str, controller: str) -> list[tuple[Path, str]]:
    """Mount points of that kind of hierarchy with, of each, the group that is its root."""
    found = []
    for line in (proc / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount_kind, _, options = after.split(" ", 2)
        if mount_kind == kind and (not controller or controller in options.split(",")):
            _, _, _, root, point, *_ = before.split(" ")
            found.append((Path(point), root))
    return found


def _delegate_memory(group: Path) -> None:
    """Lets a group's children have memory limits (version 2); refused while processes are in the group itself."""
    control = group / "cgroup.subtree_control"
    if "memory" not in control.read_text().split():
        control.write_text("+memory")
