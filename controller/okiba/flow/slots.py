"""One function's slots and the calls that wait for them: bookkeeping without I/O.

Deliberately not here: where slots come from and when they go; that is `flow.scale`. Whoever edits this: every path
that hands a slot out counts it in `calling` or `working`, and every path that takes one back counts it down.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from okiba.core.alarm import Alarm
from okiba.core.errors import OkibaError
from okiba.core.function import Function
from okiba.core.invocation import Outcome
from okiba.flow.inherit import Inheritance, Life
from okiba.ports import Slot

Got = Slot | Outcome
"""What a waiting call gets: a slot, or the outcome that stands for none (its init phase failed)."""

SHORT_US: Final = 500.0
AT_ONCE: Final = 4
"""A function whose calls take below `SHORT_US` is given so many at once, and the rest take turns: on two cores, 32
workers used evenly cost 165 µs of processor a call, mostly for cold caches, 4 workers 92. Four suffice for 8,000 calls
a second, more than one gateway passes on, wherever the slots are."""
_LONG_US: Final = 4 * SHORT_US
"""A call counts for at most so much: one that was held up by others on its machine says little about the next."""
_UNKNOWN_US: Final = 1e9
STARTING_S: Final = 12.0
"""How much longer a call waits for whom a slot is starting: the init phase alone may take 10 s, and a call that left
just before its end would never be told of its error."""


class Waiter(NamedTuple):
    """A call that waits for a slot, until `due` (loop time), which is `wait_ms` after it came."""

    future: asyncio.Future[Got]
    due: float
    wait_ms: int


@dataclass(slots=True, eq=False)
class FunctionSlots:
    """The slots of one function in this gateway.

    Args:
        epoch: In which this gateway owns the function.
        all: Every specialised slot by id; with `starting` and `unsure`, what the limit counts.
        starting: Ids of slots that will be free in a moment, unless something goes wrong.
        unsure: Ids of slots that may run something which this gateway does not see: busy ones of a former owner's, and
            lost ones until they are known to be gone.
        doubts: Dead gateways that may have made slots for the function which nobody knows.
        idle: Free slots and since when; the one used last is used next, so that the others can go.
        callers: Waiting synchronous calls; they go before `workers`, waiting asynchronous ones.
        alarm: Rings (loop time) when one of them may have waited long enough.
        calling: Synchronous calls in a slot right now; `working`, asynchronous ones.
        failures: Starts that failed in a row; they space the next ones, not before `not_before` (loop time).
        usual_us: How long its calls take, a moving average.
        turns: Calls that have ended; `turner` looks whether they go on ending while others wait for their turn.
    """

    function: Function
    epoch: int = 1
    inheritance: Inheritance = field(default_factory=Inheritance)
    lost: bool = False  # another gateway's by now: nothing of it is ended here
    left: set[str] = field(default_factory=set)  # which slots there were then
    lender: str = ""  # the owner, where the slots are only borrowed here
    lent: int = 0
    all: dict[str, Slot] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    doubts: set[Life] = field(default_factory=set)
    idle: list[tuple[Slot, float]] = field(default_factory=list)
    callers: deque[Waiter] = field(default_factory=deque)
    workers: deque[Waiter] = field(default_factory=deque)
    alarm: Alarm | None = None
    starting: set[str] = field(default_factory=set)
    calling: int = 0
    working: int = 0
    failures: int = 0
    not_before: float = 0.0
    timer: asyncio.TimerHandle | None = None
    usual_us: float = _UNKNOWN_US
    turns: int = 0
    turner: asyncio.TimerHandle | None = None

    @property
    def counted(self) -> int:
        """What the function's limit is held against, doubts apart."""
        return len(self.all) + len(self.starting) + len(self.unsure) + self.lent

    @property
    def waiting(self) -> int:
        """Calls without a slot."""
        return len(self.callers) + len(self.workers)

    @property
    def takes_turns(self) -> bool:
        """Whether one more call is served sooner by a slot that is about to be free than by an idle one."""
        return self.calling + self.working >= AT_ONCE and self.usual_us < SHORT_US and len(self.idle) > self.waiting

    def take_idle(self, asynchronous: bool) -> Slot | None:
        """A free slot, counted as in use."""
        while self.idle:
            slot, _ = self.idle.pop()
            if not slot.dead:
                self._count(asynchronous, 1)
                return slot
        return None

    def queue(self, waiter: Waiter, asynchronous: bool) -> None:
        """One more waits, behind the others of its kind."""
        (self.workers if asynchronous else self.callers).append(waiter)

    def unqueue(self, waiter: Waiter, asynchronous: bool) -> None:
        """It waits no longer, if it still did."""
        with contextlib.suppress(ValueError):
            (self.workers if asynchronous else self.callers).remove(waiter)

    def _ends(self) -> Iterator[tuple[Waiter, float]]:
        """Who waits, and until when: those for whom a slot is starting, until it has greeted or failed."""
        waiting = (each for each in (*self.callers, *self.workers) if not each.future.done())
        for place, waiter in enumerate(waiting):
            yield waiter, waiter.due + (STARTING_S if place < len(self.starting) else 0)

    def expired(self, now: float) -> list[Waiter]:
        """Who has waited for as long as he may, whose time was over first."""
        return sorted((waiter for waiter, end in self._ends() if end <= now), key=lambda waiter: waiter.due)

    def next_expiry(self) -> float:
        """When the next of those who wait is due (loop time); infinity when nobody waits."""
        return min((end for _, end in self._ends()), default=math.inf)

    def give_back(self, asynchronous: bool, duration_us: int) -> None:
        """Counts a call as ended; the duration is 0 when it did not come to its end."""
        self._count(asynchronous, -1)
        self.turns += 1
        usual = self.usual_us
        if duration_us:
            seen = min(duration_us, _LONG_US)
            self.usual_us = seen if usual == _UNKNOWN_US else usual + (seen - usual) / 16

    def offer(self, got: Got) -> bool:
        """Hands a slot, or an outcome in its place, to who waits longest; False when nobody waits."""
        for queue, asynchronous in ((self.callers, False), (self.workers, True)):
            while queue:
                future = queue.popleft().future
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
                future = queue.popleft().future
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
