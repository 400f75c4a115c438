"""The memory limit of a slot: held exactly by a cgroup where one is given, else by looking every 20 ms."""

from __future__ import annotations

import os
from typing import Protocol

from okiba_runtime import processes

# Without a cgroup the interpreter's own pages count too, and they are not the function's fault.
_RUNTIME_KB = 16 * 1024


class Memory(Protocol):
    """How a slot's memory is limited."""

    needs_polling: bool

    def adopt(self, pid: int) -> None:
        """This process and those it will fork count from now on."""
        ...

    def limit(self, memory_mb: int) -> None:
        """So much is allowed from now on."""
        ...

    def exceeded(self, root: int) -> bool:
        """Whether the tree below `root` has used, or was stopped from using, more than is allowed."""
        ...

    @property
    def peak_kb(self) -> int:
        """The most that was seen in use."""
        ...


class PolledMemory:
    """Adds up what the processes of the tree have resident."""

    needs_polling = True

    def __init__(self) -> None:
        self.peak_kb = 0
        self._limit_kb = 0

    def adopt(self, pid: int) -> None:
        """Nothing to do: the tree is found from its root each time."""

    def limit(self, memory_mb: int) -> None:
        """Takes effect at the next look."""
        self._limit_kb = memory_mb * 1024 + _RUNTIME_KB

    def exceeded(self, root: int) -> bool:
        """Whether the tree below `root` has more than the limit right now."""
        pids = processes.descendants(root)
        used_kb = processes.resident_kb(pids)
        if used_kb > self._limit_kb and len(pids) > 1:
            # Forked processes share most of their pages: a pool of 8 children is not 8 times the memory.
            used_kb = processes.proportional_kb(pids)
        self.peak_kb = max(self.peak_kb, used_kb)
        return used_kb > self._limit_kb


class CgroupMemory:
    """A cgroup (v1's memory controller, or v2) that was made for this slot alone."""

    needs_polling = False
    peak_kb = 0  # its own peak counts cached files too, which Lambda does not report; the processes' own will do

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._v2 = os.path.exists(f"{folder}/memory.max")

    def adopt(self, pid: int) -> None:
        """Moves the process into the group, before it forks anything."""
        self._write("cgroup.procs", str(pid))

    def limit(self, memory_mb: int) -> None:
        """Sets the limit; memory is not to be had from swap instead."""
        size = str(memory_mb * 1024 * 1024)
        if not self._v2:
            self._write("memory.limit_in_bytes", size)
            self._write_if_there("memory.memsw.limit_in_bytes", size)
            return
        self._write("memory.max", size)
        self._write_if_there("memory.swap.max", "0")
        self._write_if_there("memory.oom.group", "1")

    def exceeded(self, root: int) -> bool:
        """Whether the kernel has killed a process of the group for memory."""
        del root
        name = "memory.events" if self._v2 else "memory.oom_control"
        with open(f"{self._folder}/{name}") as file:
            counts = dict(line.split() for line in file)
        return counts.get("oom_kill", "0") != "0"

    def _write(self, name: str, value: str) -> None:
        with open(f"{self._folder}/{name}", "w") as file:
            file.write(value)

    def _write_if_there(self, name: str, value: str) -> None:
        if os.path.exists(f"{self._folder}/{name}"):
            self._write(name, value)
