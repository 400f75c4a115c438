"""A slot's processes as /proc shows them: who they are, what memory they use, and how all of them are ended."""

from __future__ import annotations

import os
import signal

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


def children(pid: int) -> list[int]:
    """The processes that `pid`'s threads have forked and that still exist (zombies included)."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        for thread in threads:
            found += [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]
    except OSError:
        if os.path.exists(f"/proc/{pid}/stat") and not os.path.exists(f"/proc/{pid}/task/{pid}/children"):
            return _children_by_search(pid)  # a kernel without CONFIG_PROC_CHILDREN
    return found


def _children_by_search(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and _parent(int(name)) == pid:
            found.append(int(name))
    return found


def _parent(pid: int) -> int:
    try:
        return int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on, of `pid`."""
    found, unseen = [], [pid]
    while unseen:
        new = children(unseen.pop())
        found += new
        unseen += new
    return found


def end_all(pids: list[int]) -> None:
    """Sends each SIGKILL."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def resident_kb(pids: list[int]) -> int:
    """Resident memory of these processes added up; pages that they share count for each."""
    total = 0
    for pid in pids:
        try:
            total += int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE_KB
        except (OSError, IndexError):
            continue
    return total


def proportional_kb(pids: list[int]) -> int:
    """As `resident_kb`, but a page that n processes share counts one n-th for each; costs a walk of the page tables."""
    total = 0
    for pid in pids:
        try:
            rollup = _read(f"/proc/{pid}/smaps_rollup")
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(b"Pss:"))
    return total


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read() or b""
