"""The memory limit of a slot, looked after every 20 ms while something runs; counted by a cgroup where one is given.

Lambda's limit is on what processes use themselves; files in /tmp are not part of it. Here /tmp lies in memory, and a
cgroup counts it in. So the kernel's own limit leaves room for a full /tmp, and bounds what can happen between two
looks; what processes use themselves is compared with the function's limit at each look.
"""

from __future__ import annotations

import os
from typing import Protocol

from okiba_runtime import processes
from okiba_runtime.isolation import TMP_MB

# Without a cgroup the interpreter's own pages count too, and they are not the function's fault.
_RUNTIME_KB = 16 * 1024

# Finding a tree's processes costs five times as much as reading what they use.
_LOOKS_PER_SEARCH = 5


class Memory(Protocol):
    """How a slot's memory is limited."""

    peak_kb: int
    """The most that was seen in use."""

    def adopt(self, pid: int) -> None:
        """The process and those it will fork count from now on."""
        ...

    def limit(self, memory_mb: int) -> None:
        """So much is allowed from now on."""
        ...

    def exceeded(self, root: int) -> bool:
        """Whether the tree below `root` uses, or was killed for using, more than is allowed."""
        ...


class TreeMemory:
    """Adds up what the processes of the tree have resident."""

    def __init__(self) -> None:
        self.peak_kb = 0
        self._limit_kb = 0
        self._pids: list[int] = []
        self._looks = 0

    def adopt(self, pid: int) -> None:
        """Nothing to do: the tree is found from its root."""

    def limit(self, memory_mb: int) -> None:
        """Takes effect at the next look."""
        self._limit_kb = memory_mb * 1024 + _RUNTIME_KB

    def exceeded(self, root: int) -> bool:
        """Whether the tree below `root` has more than the limit right now."""
        if self._looks % _LOOKS_PER_SEARCH == 0:
            self._pids = processes.descendants(root)
        self._looks += 1
        used_kb = processes.resident_kb(self._pids)
        if used_kb > self._limit_kb and len(self._pids) > 1:
            # Forked processes share most of their pages: a pool of 8 children is not 8 times the memory.
            used_kb = processes.proportional_kb(self._pids)
        self.peak_kb = max(self.peak_kb, used_kb)
        return used_kb > self._limit_kb


class CgroupMemory:
    """A cgroup (v1's memory controller, or v2) that was made for this slot alone."""

    def __init__(self, folder: str) -> None:
        self.peak_kb = 0
        self._folder = folder
        self._v2 = os.path.exists(f"{folder}/memory.max")
        self._limit_bytes = 0

    def adopt(self, pid: int) -> None:
        """Moves the process into the group, before it forks anything."""
        self._write("cgroup.procs", str(pid))

    def limit(self, memory_mb: int) -> None:
        """Sets the limit; memory is not to be had from swap instead."""
        self._limit_bytes = memory_mb * 1024 * 1024
        ceiling = str((memory_mb + TMP_MB) * 1024 * 1024)
        if self._v2:
            self._write("memory.max", ceiling)
            self._write_if_there("memory.swap.max", "0")
            self._write_if_there("memory.oom.group", "1")
        else:
            self._write("memory.limit_in_bytes", ceiling)
            self._write_if_there("memory.memsw.limit_in_bytes", ceiling)

    def exceeded(self, root: int) -> bool:
        """Whether the group's processes use more than the limit, or the kernel has killed one of them for it."""
        del root
        try:
            return self._exceeded()
        except FileNotFoundError:  # somebody removed the group: nothing of the slot is in it any more
            return False

    def _exceeded(self) -> bool:
        if self._counts("memory.events" if self._v2 else "memory.oom_control").get("oom_kill"):
            return True
        if int(self._read("memory.current" if self._v2 else "memory.usage_in_bytes")) <= self._limit_bytes:
            return False  # files included; so there is no need for the costlier question
        used = self._counts("memory.stat")["anon" if self._v2 else "total_rss"]
        self.peak_kb = max(self.peak_kb, used // 1024)
        return used > self._limit_bytes

    def _counts(self, name: str) -> dict[str, int]:
        words = self._read(name).split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def _read(self, name: str) -> str:
        with open(f"{self._folder}/{name}") as file:
            return file.read()

    def _write(self, name: str, value: str) -> None:
        with open(f"{self._folder}/{name}", "w") as file:
            file.write(value)

    def _write_if_there(self, name: str, value: str) -> None:
        if os.path.exists(f"{self._folder}/{name}"):
            self._write(name, value)
