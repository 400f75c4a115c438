"""The third lane: what a bucket holds and the ledger has never heard of is told as its notification would have been.

    bucket ──list──▶ objects in the window ──ledger──▶ never heard of ──▶ inbox, lane `sweep` ──▶ route

Object stores forget to announce some of what they have acknowledged, MinIO around each of its restarts. An object's
identity in a listing is that in its event (`core.event`), so what was told is known, and telling twice does no harm:
a pass may run at any time, any number of times, beside the other lanes. Nothing here decides what runs; `flow.route`
does, as for every notification.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from okiba.core import event as events
from okiba.core.event import Event
from okiba.core.function import Function
from okiba.core.listing import StoredObject, event_of, first_concerned, told
from okiba.flow.catalogue import bound_buckets, routed_bindings
from okiba.flow.route import EXISTING, SWEEP
from okiba.ports import Inbox

log = logging.getLogger(__name__)

BATCH: Final = 64
"""Events told in one notification."""

MARGIN_MS: Final = 3_600_000
"""So much before the ledger forgets an event, its object is no longer looked at: it would be taken for new."""


class Listing(Protocol):
    """What buckets hold."""

    def pages(self, bucket: str, prefix: str = "", after: str = "") -> AsyncIterator[list[StoredObject]]:
        """Everything below the prefix whose key comes behind `after`, in order of keys.

        Raises:
            NotFound: There is no such bucket.
            StoreUnavailable: The store is away.
        """
        ...


class Ledger(Protocol):
    """What is known of events."""

    async def seen(self, function: str, event_ids: Sequence[str]) -> list[bool]:
        """Which of these events the ledger has."""
        ...


@dataclass(slots=True)
class Pass:
    """One pass over a bucket.

    Args:
        looked: Objects seen so far; `after`, the last one's key, behind which it may go on.
        found: Events that nobody had told of, and that are told now.
    """

    bucket: str
    existing: bool = False
    after: str = ""
    looked: int = 0
    found: int = 0


class Sweeper:
    """Passes over buckets.

    Args:
        functions: Those that there are, as the registry has them now.
        ledger: Knows events by function.
        remembered_ms: How long the ledger knows a settled event.
        now_ms: Wall clock.
    """

    def __init__(
        self,
        functions: Callable[[], Awaitable[Sequence[Function]]],
        listing: Listing,
        ledger: Ledger,
        inbox: Inbox,
        remembered_ms: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._functions = functions
        self._listing = listing
        self._ledger = ledger
        self._inbox = inbox
        self._remembered_ms = remembered_ms
        self._now_ms = now_ms

    async def buckets(self) -> list[str]:
        """Every bucket that a function is bound to."""
        return bound_buckets(await self._functions())

    async def run(
        self, swept: Pass, turn: Callable[[Pass, int], Awaitable[object]], pause: Callable[[float], Awaitable[object]]
    ) -> None:
        """Looks through the bucket, from `swept.after` on.

        Args:
            turn: Awaited after each page: the pass has come so far, and found so many events in it.
            pause: Awaited with how long the page took (s); what it waits is the throttle.

        Raises:
            NotFound: There is no such bucket.
            StoreUnavailable: Redis or the object store is away; to be called again, it goes on where it was.
        """
        loop = asyncio.get_running_loop()
        functions = [function for function in await self._functions() if _bound(function, swept.bucket)]
        began_s = loop.time()
        async for page in self._listing.pages(swept.bucket, _shared_prefix(functions, swept.bucket), swept.after):
            found = await self._tell(swept, functions, page)
            swept.found += found
            swept.looked += len(page)
            swept.after = _whole(page, swept.after)
            await turn(swept, found)
            await pause(loop.time() - began_s)
            began_s = loop.time()

    async def _tell(self, swept: Pass, functions: Sequence[Function], page: Iterable[StoredObject]) -> int:
        """Tells of what is in the page and in nobody's ledger; how many events that is."""
        oldest_ms = 0 if swept.existing else self._now_ms() - self._remembered_ms + MARGIN_MS
        candidates = [(item, event_of(swept.bucket, item)) for item in page if item.modified_ms >= oldest_ms]
        unheard: dict[str, Event] = {}
        for function in functions:
            due = {
                events.event_id(event): event
                for item, event in candidates
                if first_concerned(routed_bindings(function), event, None if swept.existing else item.modified_ms)
            }
            known = await self._ledger.seen(function.name, list(due)) if due else []
            unheard |= {name: due[name] for name, is_known in zip(due, known, strict=True) if not is_known}
        found, lane = list(unheard.values()), EXISTING if swept.existing else SWEEP
        for start in range(0, len(found), BATCH):
            await self._inbox.store(lane, told(found[start : start + BATCH]), self._now_ms())
        if found:
            log.warning("objects that nobody announced", extra={"bucket": swept.bucket, "count": len(found)})
        return len(found)


def _bound(function: Function, bucket: str) -> bool:
    return any(binding.bucket == bucket for binding in routed_bindings(function))


def _whole(page: Sequence[StoredObject], before: str) -> str:
    """The last key of which all versions have been seen: those of the page's last key may go on in the next one."""
    last = page[-1].key
    if not any(item.version_id for item in page):
        return last
    return next((item.key for item in reversed(page) if item.key != last), before)


def _shared_prefix(functions: Iterable[Function], bucket: str) -> str:
    """What all keys that anybody waits for begin with."""
    bindings = (binding for function in functions for binding in routed_bindings(function))
    prefixes = {binding.prefix for binding in bindings if binding.bucket == bucket}
    return prefixes.pop() if len(prefixes) == 1 else ""
