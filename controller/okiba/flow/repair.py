"""When buckets are swept: after the object store was away or started anew, on schedule, and when somebody asks.

A store that has just started serves before it knows its rules, and goes on forgetting for moments: so it is swept at
once, and again some seconds later. A scheduled pass is slow on purpose and stands back for all others, which then go
on where it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from okiba.core.errors import NotFound, OkibaError, StoreUnavailable
from okiba.core.sweeping import Ask, Progress
from okiba.flow.sweep import Pass, Sweeper

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
AGAIN_S: Final = (0.0, 10.0, 30.0)
"""After a restart was noticed, buckets are swept so much later each."""

JITTER_S: Final = 1.5
"""Uptimes are told in whole seconds."""

THROTTLE: Final = 3.0
"""A scheduled pass rests so many times as long as it works."""


class SweepBook(Protocol):
    """What is asked for, and how far it has come."""

    async def asked(self) -> Mapping[str, Ask]:
        """By bucket."""
        ...

    async def answered(self, bucket: str, ask: Ask) -> None:
        """That one is done; what was asked since stays."""
        ...

    async def tell(self, bucket: str, progress: Progress) -> None:
        """The newest pass over the bucket has come so far."""
        ...

    async def found(self, bucket: str, count: int) -> None:
        """So many events more were found in the bucket."""
        ...


class _StoodBackError(Exception):
    """Another pass is more urgent."""


class Repair:
    """Sweeps for ever.

    Args:
        uptimes: Seconds since each server of the object store has started; empty where it does not tell.
        every_s: Between two scheduled passes; 0: none.
        now_ms: Wall clock, for people.
        clock: One that only goes forward (s).
    """

    def __init__(
        self,
        sweeper: Sweeper,
        book: SweepBook,
        uptimes: Callable[[], Awaitable[Mapping[str, float]]],
        every_s: float,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._sweeper = sweeper
        self._book = book
        self._uptimes = uptimes
        self._every_s = every_s
        self._now_ms = now_ms
        self._pause = pause
        self._clock = clock
        self._started: dict[str, float] = {}
        self._was_away = False
        self._looked_s = float("-inf")
        self._due: list[float] = [self._clock() + later for later in AGAIN_S]  # this process was away itself
        self._next_s = self._clock() + every_s
        self._open: list[Pass] = []

    async def run(self) -> None:
        """Until cancelled; through any absence of Redis and of the object store."""
        while True:
            await self.turn()
            await self._pause(LOOK_S)

    async def turn(self) -> None:
        """Looks for a reason to sweep, and does; what a store's absence cuts off stays due."""
        try:
            await self._turn()
        except StoreUnavailable as trouble:
            log.warning("sweeping waits for a store", extra={"reason": str(trouble)})
            self._was_away = True
        except OkibaError as trouble:
            log.warning("a sweep failed", extra={"reason": str(trouble)})

    async def _turn(self) -> None:
        await self._look()
        for bucket, ask in (await self._book.asked()).items():
            await self._swept(Pass(bucket, ask.existing), "asked", _no_rest)
            await self._book.answered(bucket, ask)
        if self._due and self._due[0] <= self._clock():
            for bucket in await self._sweeper.buckets():
                await self._swept(Pass(bucket), "restart", _no_rest)
            self._due.pop(0)
        if self._every_s and self._next_s <= self._clock() and not self._open:
            self._next_s = self._clock() + self._every_s
            self._open = [Pass(bucket) for bucket in await self._sweeper.buckets()]
        await self._go_on()

    async def _look(self) -> None:
        """Notices that the object store has started anew, or was away."""
        elapsed_s, self._looked_s = self._clock() - self._looked_s, self._clock()
        uptimes = await self._uptimes()
        known = self._started
        anew = [name for name, up_s in uptimes.items() if up_s < known.get(name, 0.0) + elapsed_s - JITTER_S]
        if self._was_away or (known and anew):
            log.warning("the object store was away: sweeping", extra={"servers": ", ".join(anew)})
            self._due = [self._clock() + later for later in AGAIN_S]
        self._started, self._was_away = dict(uptimes), False

    async def _go_on(self) -> None:
        """With the scheduled passes, until something is more urgent."""
        while self._open:
            try:
                await self._swept(self._open[0], "schedule", self._rest)
            except _StoodBackError:
                return
            self._open.pop(0)

    async def _rest(self, worked_s: float) -> None:
        await self._pause(worked_s * THROTTLE)
        if self._clock() - self._looked_s > LOOK_S:
            await self._look()
            if (self._due and self._due[0] <= self._clock()) or await self._book.asked():
                raise _StoodBackError

    async def _swept(self, swept: Pass, why: str, rest: Callable[[float], Awaitable[object]]) -> None:
        """One pass, told of; that a bucket is missing ends it, and no other."""
        progress = Progress("running", why, swept.existing, began_ms=self._now_ms())

        async def come(swept: Pass, found: int) -> None:
            if found:
                await self._book.found(swept.bucket, found)
            await self._book.tell(swept.bucket, _seen(progress, swept))

        state, reason = "done", ""
        try:
            await self._sweeper.run(swept, come, rest)
        except NotFound as missing:
            state, reason = "failed", str(missing)
            log.warning("a bucket that is to be swept is missing", extra={"bucket": swept.bucket})
        ended = replace(_seen(progress, swept), state=state, reason=reason, ended_ms=self._now_ms())
        await self._book.tell(swept.bucket, ended)


def _seen(progress: Progress, swept: Pass) -> Progress:
    return replace(progress, looked=swept.looked, found=swept.found, after=swept.after)


async def _no_rest(_worked_s: float) -> None:
    """For passes that are waited for."""
