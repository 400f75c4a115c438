"""Works off an agenda, several names side by side; whoever has news adds to it.

    news ──add──▶ agenda ──▶ look(name) ──▶ None: all is well │ milliseconds: look again then
                    ▲                            │
                    └────────────────────────────┘

What a failure is, the one who looks says; how long the pauses behind failures are stands here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from okiba.core.agenda import Agenda
from okiba.core.backoff import Backoff

WORKERS: Final = 4

FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 30.0
"""Pauses after failures double from the first to the last."""


class Rounds:
    """An agenda with a clock, news, and what failed last.

    Args:
        now_ms: A clock that only goes forward.
        chance: A number from 0 to 1, for pauses that differ from each other.
    """

    def __init__(self, now_ms: Callable[[], int], chance: Callable[[], float]) -> None:
        self._now_ms = now_ms
        self._chance = chance
        self._agenda = Agenda()
        self._news = asyncio.Event()
        self._backoffs: defaultdict[str, Backoff] = defaultdict(lambda: Backoff(FIRST_PAUSE_S, LAST_PAUSE_S))

    def add(self, name: str, in_ms: int = 0) -> None:
        """The name is to be looked at, no later than then."""
        self._agenda.add(name, self._now_ms() + in_ms)
        self._news.set()

    async def work(self, look: Callable[[str], Awaitable[int | None]]) -> None:
        """Has names looked at, `WORKERS` at a time and none twice at a time; until cancelled, or `look` raises.

        Args:
            look: Returns the milliseconds after which to look again, None when all is well.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work(look))

    async def _work(self, look: Callable[[str], Awaitable[int | None]]) -> None:
        while True:
            name = await self._next()
            again_ms = await look(name)
            self._agenda.done(name)
            if again_ms is not None:
                self.add(name, again_ms)
            self._news.set()  # what was asked for meanwhile can be taken now

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

    # --- failures -----------------------------------------------------------------------------------------------------

    def failures(self, name: str) -> int:
        """How often looking at it has failed in a row."""
        return self._backoffs[name].failures if name in self._backoffs else 0

    def failed(self, name: str) -> int:
        """Milliseconds after which to look again, after one failure more."""
        return int(self._backoffs[name].failed(self._chance()) * 1000)

    def succeeded(self, name: str) -> None:
        """Looking at it did not fail."""
        self._backoffs.pop(name, None)
