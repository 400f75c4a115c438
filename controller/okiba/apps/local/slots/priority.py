"""Slots made ahead of time must not slow down the calls that run: they start at a low priority, undone once they are.

SCHED_IDLE runs only where nothing else wants to, but an unprivileged process cannot leave it again; SCHED_BATCH, which
does not preempt on waking, anyone can. What this user can undo is tried once, on a thread that ends.
"""

from __future__ import annotations

import contextlib
import os
import threading
from functools import cache
from pathlib import Path


def lower(pid: int) -> None:
    """The process, and what it will start, gives way to others."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, _undoable_policy(), os.sched_param(0))


def restore(pid: int) -> None:
    """The process and its descendants run as everybody else does; a worker that gives way by itself still does."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            if os.sched_getscheduler(int(task.name)) == _undoable_policy():
                os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))
            for child in _children(task):
                restore(child)


def hurry(pid: int) -> None:
    """The process, and those of its children that still give way, run as everybody else does; others are left alone."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
        for child in _children(Path(f"/proc/{pid}/task/{pid}")):
            if os.sched_getscheduler(child) != os.SCHED_OTHER:
                restore(child)


def _children(task: Path) -> list[int]:
    return [int(child) for child in (task / "children").read_text().split()]


@cache
def _undoable_policy() -> int:
    policies = [os.SCHED_BATCH]
    trial = threading.Thread(target=_try_idle, args=(policies,))
    trial.start()
    trial.join()
    return policies[-1]


def _try_idle(policies: list[int]) -> None:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        policies.append(os.SCHED_IDLE)
