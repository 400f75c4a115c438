"""Keeps reconciling: at every change, after every failure with growing pauses, and everything once a minute.

Functions are worked on side by side, so that one that is slow or hostile costs the others nothing but its share.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from okiba.core.agenda import Agenda
from okiba.core.errors import OkibaError, PlatformError
from okiba.flow.reconcile import Reconciler
from okiba.ports import Registry

log = logging.getLogger(__name__)

WORKERS: Final = 4
SURVEY_MS: Final = 60_000
LONGEST_MS: Final = 300_000
"""One reconciliation may take so long: unpacking 250 MB beside a busy machine takes a tenth of it."""

_FIRST_PAUSE_MS: Final = 500
_LAST_PAUSE_MS: Final = 30_000
_CHANGES_PAUSE_S: Final = 0.5


class Follower:
    """Tells the reconciler which names to look at, and when.

    Args:
        now_ms: A clock that only goes forward.
        chance: A number from 0 to 1, for pauses that differ from each other.
    """

    def __init__(
        self, registry: Registry, reconciler: Reconciler, now_ms: Callable[[], int], chance: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._reconciler = reconciler
        self._now_ms = now_ms
        self._chance = chance
        self._agenda = Agenda()
        self._news = asyncio.Event()
        self._gap = asyncio.Event()
        self._failures: Counter[str] = Counter()

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._survey())
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _follow(self) -> None:
        """Puts every change on the agenda; after a gap, everything."""
        while True:
            try:
                async for what in self._registry.changes():
                    self._changed(what)
            except PlatformError as trouble:
                log.warning("changes cannot be followed", extra={"reason": str(trouble)})
                await asyncio.sleep(_CHANGES_PAUSE_S)
                self._gap.set()

    def _changed(self, what: str) -> None:
        kind, colon, access_key = what.partition(":")
        if colon and kind == "key":
            for name in self._reconciler.functions_of_key(access_key):
                self._add(name, 0)
        else:
            self._add(what, 0)

    async def _survey(self) -> None:
        failures = 0
        while True:
            self._gap.clear()
            pause_ms = SURVEY_MS
            try:
                for name in await self._reconciler.survey():
                    self._add(name, 0)
                failures = 0
            except OkibaError as trouble:
                failures += 1
                pause_ms = self._pause_ms(failures)
                log.warning("survey failed", extra={"reason": str(trouble), "again_in_ms": pause_ms})
            try:
                async with asyncio.timeout(pause_ms / 1000):
                    await self._gap.wait()
            except TimeoutError:
                pass

    async def _work(self) -> None:
        while True:
            name = await self._next()
            again_ms = await self._reconcile(name)
            self._agenda.done(name)
            if again_ms is not None:
                self._add(name, again_ms)
            else:
                self._news.set()  # what was asked for meanwhile can be taken now

    async def _reconcile(self, name: str) -> int | None:
        """Milliseconds after which to look again, None when all is well."""
        try:
            async with asyncio.timeout(LONGEST_MS / 1000):
                again_ms = await self._reconciler.reconcile(name)
        except (PlatformError, TimeoutError) as trouble:
            return self._failed(name, str(trouble) or f"took over {LONGEST_MS} ms")
        except Exception:  # one function that nobody foresaw must not end the loop for the others
            log.exception("reconciliation broke", extra={"function": name})
            return self._failed(name, "see above")
        del self._failures[name]
        return again_ms

    def _failed(self, name: str, reason: str) -> int:
        self._failures[name] += 1
        again_ms = self._pause_ms(self._failures[name])
        extra = {"function": name, "reason": reason, "again_in_ms": again_ms, "failures": self._failures[name]}
        log.warning("reconciliation failed", extra=extra)
        return again_ms

    def _pause_ms(self, failures: int) -> int:
        """Doubling from half a second to half a minute; half of it left to chance, so that not all come at once."""
        longest = min(_LAST_PAUSE_MS, _FIRST_PAUSE_MS << min(failures - 1, 10))
        return int(longest * (0.5 + self._chance() / 2))

    def _add(self, name: str, in_ms: int) -> None:
        self._agenda.add(name, self._now_ms() + in_ms)
        self._news.set()

    async def _next(self) -> str:
        while (name := self._agenda.take(self._now_ms())) is None:
            self._news.clear()
            wait_ms = self._agenda.wait_ms(self._now_ms())
            try:
                async with asyncio.timeout(None if wait_ms is None else wait_ms / 1000):
                    await self._news.wait()
            except TimeoutError:
                pass
        return name
