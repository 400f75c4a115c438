"""Keeps reconciling: at every change, after every failure with growing pauses, and everything once a minute.

Functions are worked on side by side, so that one that is slow or hostile costs the others nothing but its share.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from okiba.core.backoff import Backoff
from okiba.core.errors import OkibaError, PlatformError
from okiba.flow.reconcile import Reconciler
from okiba.flow.rounds import FIRST_PAUSE_S, LAST_PAUSE_S, Rounds
from okiba.ports import Registry

log = logging.getLogger(__name__)

SURVEY_MS: Final = 60_000
LONGEST_MS: Final = 300_000
"""One reconciliation may take so long: unpacking 250 MB beside a busy machine takes a tenth of it."""

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
        self._chance = chance
        self._rounds = Rounds(now_ms, chance)
        self._gap = asyncio.Event()

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._survey())
            group.create_task(self._rounds.work(self._reconciled))

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
                self._rounds.add(name)
        else:
            self._rounds.add(what)

    async def _survey(self) -> None:
        backoff = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S)
        while True:
            self._gap.clear()
            pause_ms = SURVEY_MS
            try:
                for name in await self._reconciler.survey():
                    self._rounds.add(name)
                backoff.succeeded()
            except OkibaError as trouble:
                pause_ms = int(backoff.failed(self._chance()) * 1000)
                log.warning("survey failed", extra={"reason": str(trouble), "again_in_ms": pause_ms})
            try:
                async with asyncio.timeout(pause_ms / 1000):
                    await self._gap.wait()
            except TimeoutError:
                pass

    async def _reconciled(self, name: str) -> int | None:
        """Milliseconds after which to look again, None when all is well."""
        try:
            async with asyncio.timeout(LONGEST_MS / 1000):
                again_ms = await self._reconciler.reconcile(name)
        except (PlatformError, TimeoutError) as trouble:
            return self._failed(name, str(trouble) or f"took over {LONGEST_MS} ms")
        except Exception:  # one function that nobody foresaw must not end the loop for the others
            log.exception("reconciliation broke", extra={"function": name})
            return self._failed(name, "see above")
        self._rounds.succeeded(name)
        return again_ms

    def _failed(self, name: str, reason: str) -> int:
        again_ms = self._rounds.failed(name)
        failures = self._rounds.failures(name)
        extra = {"function": name, "reason": reason, "again_in_ms": again_ms, "failures": failures}
        log.warning("reconciliation failed", extra=extra)
        return again_ms
