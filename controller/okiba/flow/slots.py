"""One function's slots and the calls that wait for them: bookkeeping without I/O.

Deliberately not here: where slots come from and when they go; that is `flow.scale`. Whoever edits this: every path
that hands a slot out counts it in `calling` or `working`, and every path that takes one back counts it down.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from okiba.core.errors import OkibaError
from okiba.core.function import Function
from okiba.core.invocation import Outcome
from okiba.ports import Slot

Got = Slot | Outcome
"""What a waiting call gets: a slot, or the outcome that stands for none (its init phase failed)."""


@dataclass(slots=True, eq=False)
class FunctionSlots:
    """The slots of one function in this gateway.

    Args:
        all: Every specialised slot by id; with `starting`, what the limit counts.
        idle: Free slots and since when; the one used last is used next, so that the others can go.
        callers: Waiting synchronous calls; they go before `workers`, waiting asynchronous ones.
        calling: Synchronous calls in a slot right now; `working`, asynchronous ones.
        failures: Starts that failed in a row; they space the next ones, not before `not_before` (loop time).
    """

    function: Function
    all: dict[str, Slot] = field(default_factory=dict)
    idle: list[tuple[Slot, float]] = field(default_factory=list)
    callers: deque[asyncio.Future[Got]] = field(default_factory=deque)
    workers: deque[asyncio.Future[Got]] = field(default_factory=deque)
    starting: int = 0
    calling: int = 0
    working: int = 0
    failures: int = 0
    not_before: float = 0.0
    timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Calls without a slot."""
        return len(self.callers) + len(self.workers)

    def take_idle(self, asynchronous: bool) -> Slot | None:
        """A free slot, counted as in use."""
        while self.idle:
            slot, _ = self.idle.pop()
            if not slot.dead:
                self._count(asynchronous, 1)
                return slot
        return None

    def give_back(self, asynchronous: bool) -> None:
        """Counts a call as ended."""
        self._count(asynchronous, -1)

    def offer(self, got: Got) -> bool:
        """Hands a slot, or an outcome in its place, to who waits longest; False when nobody waits."""
        for queue, asynchronous in ((self.callers, False), (self.workers, True)):
            while queue:
                future = queue.popleft()
                if future.done():
                    continue
                if not isinstance(got, Outcome):
                    self._count(asynchronous, 1)
                future.set_result(got)
                return True
        return False

    def refuse_all(self, error: OkibaError) -> None:
        """Every call that waits is told why it will get no slot."""
        for queue in (self.callers, self.workers):
            while queue:
                future = queue.popleft()
                if not future.done():
                    future.set_exception(error)

    def forget(self, slot: Slot) -> None:
        """The slot is no longer the function's."""
        self.all.pop(slot.id, None)
        self.idle = [(other, since) for other, since in self.idle if other is not slot]

    def idle_since_before(self, moment: float) -> Iterator[Slot]:
        """Free slots that have had no call since then, oldest first."""
        return (slot for slot, since in list(self.idle) if since < moment)

    def outdated(self, slot: Slot) -> bool:
        """Whether the slot runs a revision that is no longer the function's."""
        return slot.revision != self.function.revision

    def _count(self, asynchronous: bool, step: int) -> None:
        if asynchronous:
            self.working += step
        else:
            self.calling += step
