"""Hop 2: notifications become work, one piece for each function that a bucket event concerns.

A notification is settled only after everything in it is durable elsewhere, in a queue or in the quarantine. So a crash
at any point means that it is read again, and the ledger makes the second time harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from okiba.core import event as events
from okiba.core.backoff import Backoff
from okiba.core.errors import StoreUnavailable
from okiba.core.event import Event
from okiba.core.function import Function
from okiba.core.listing import first_concerned
from okiba.ports import Inbox, Queue, RawNotification, Work

log = logging.getLogger(__name__)

SWEEP: Final = "sweep"
EXISTING: Final = "existing"
"""The lanes of what was found in a bucket; the first says nothing to bindings that are younger than the object."""

BATCH: Final = 64
WAIT_MS: Final = 5_000
FIRST_PAUSE_S: Final = 0.05
LAST_PAUSE_S: Final = 2.0
_REASON_FAULTS: Final = 3


@dataclass(slots=True)
class RouteCounts:
    """What one router has done since it started; metrics read it.

    Args:
        accepted: Pieces of work that were new.
        duplicates: Pieces that the ledger had seen: with two lanes, about as many.
        repaired: Of the accepted ones, those that no store had told of: a sweep found them.
        unbound: Events that concern no function.
        lag_ms: From receiving to routing, of the newest notification routed.
    """

    notifications: int = 0
    accepted: int = 0
    duplicates: int = 0
    repaired: int = 0
    unbound: int = 0
    quarantined: int = 0
    lag_ms: int = 0


class Router:
    """Reads notifications for ever.

    Args:
        functions: Those that have bindings to a bucket, as they are now.
        on_work: Told of a function that may have work to lease.
        clock: Wall clock in ms.
        region: What handlers see where the store names no region.
        pause: Waits so many seconds; while the store is away.
    """

    def __init__(
        self,
        inbox: Inbox,
        queue: Queue,
        functions: Callable[[str], Iterable[Function]],
        on_work: Callable[[str], None],
        clock: Callable[[], int],
        region: str = "us-east-1",
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._inbox = inbox
        self._queue = queue
        self._functions = functions
        self._on_work = on_work
        self._clock = clock
        self._region = region
        self._pause = pause
        self._doubtful: set[str] = set()
        self.counts = RouteCounts()

    async def run(self) -> None:
        """Routes until cancelled; whatever is in a notification, and however long the store is away."""
        backoff = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S)
        while True:
            try:
                await self.step(WAIT_MS)
            except StoreUnavailable as error:
                log.warning("routing waits for the store", extra={"reason": str(error)})
                await self._pause(backoff.failed())
            else:
                backoff.succeeded()

    async def step(self, wait_ms: int) -> int:
        """Routes what is there, waiting up to `wait_ms` for the first; how many notifications that were.

        Raises:
            StoreUnavailable: Nothing is settled that is not durable elsewhere; step again.
        """
        notifications = await self._inbox.read(BATCH, wait_ms)
        if not notifications:
            return 0
        routed = [self._routed(notification) for notification in notifications]
        await self._accept([work for works, _ in routed for work in works])
        for notification, (_, faults) in zip(notifications, routed, strict=True):
            if faults:
                await self._quarantine(notification, faults)
        await self._inbox.settle([notification.entry for notification in notifications])
        self.counts.notifications += len(notifications)
        self.counts.lag_ms = self._clock() - notifications[-1].received_ms
        return len(notifications)

    def _routed(self, notification: RawNotification) -> tuple[Sequence[Work], Sequence[str]]:
        """The work in a notification, and what could not be read of it."""
        try:
            read = events.read_notification(notification.body)
            works = [work for event in read.events for work in self._works_of(event, notification)]
        except Exception as error:  # one notification must never stop those behind it
            log.exception("a notification broke its reader", extra={"entry": notification.entry})
            return (), (f"{type(error).__name__}: {error}",)
        return works, read.faults

    async def _quarantine(self, notification: RawNotification, faults: Sequence[str]) -> None:
        more = f" and {len(faults) - _REASON_FAULTS} more" if len(faults) > _REASON_FAULTS else ""
        await self._inbox.quarantine(notification, "; ".join(faults[:_REASON_FAULTS]) + more)
        self.counts.quarantined += 1

    def _works_of(self, event: Event, notification: RawNotification) -> Iterator[Work]:
        written_ms = events.modified_ms(event) if notification.lane == SWEEP else None
        event_id = events.event_id(event)
        unbound = True
        for function in self._functions(event.bucket):
            binding = first_concerned(function.bindings, event, written_ms)
            if binding is not None:
                unbound = False
                request_id = events.request_id(event_id, function.name)
                payload = events.payload(event, binding.id, self._region)
                source = SWEEP if notification.lane in (SWEEP, EXISTING) else "s3"
                yield Work(function.name, event_id, request_id, payload, source, notification.received_ms)
        self.counts.unbound += unbound

    async def _accept(self, works: Sequence[Work]) -> None:
        """Accepts all of it, and wakes those who have something new.

        After an answer that never came nobody knows what was taken, and the second try finds duplicates: so the
        functions of the first are woken as well.
        """
        doubtful, self._doubtful = self._doubtful, self._doubtful | {work.function for work in works}
        taken = await self._queue.accept(works)
        self._doubtful = set()
        new = {work.function for work, is_new in zip(works, taken, strict=True) if is_new}
        for function in doubtful | new:
            self._on_work(function)
        self.counts.accepted += sum(taken)
        self.counts.repaired += sum(is_new for work, is_new in zip(works, taken, strict=True) if work.source == SWEEP)
        self.counts.duplicates += len(taken) - sum(taken)
