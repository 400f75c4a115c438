"""One `Drain` per function, made and ended as functions come and go, and woken when there may be work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from okiba.core.errors import StoreUnavailable
from okiba.core.function import Function
from okiba.flow.dispatch import Drain
from okiba.ports import Queue, Slot

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the queues are looked at for retries that have become due, and for work that nobody announced."""


class Drains:
    """All drains of this gateway.

    Args:
        make: Makes a function's drain.
        depths: Told every function's (waiting and delayed, age of the oldest in ms), for metrics.
    """

    def __init__(
        self, queue: Queue, make: Callable[[str], Drain], depths: Callable[[dict[str, tuple[int, int]]], None]
    ) -> None:
        self._queue = queue
        self._make = make
        self._depths = depths
        self._drains: dict[str, Drain] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._forgetting: asyncio.Task[None] | None = None

    async def recover(self, names: list[str]) -> None:
        """Leases again, for each function, what an earlier life of this gateway had.

        Raises:
            StoreUnavailable: To be called again.
        """
        for name in names:
            if name not in self._drains:
                drain = self._make(name)
                await drain.recover()
                self._start(name, drain)

    def function_changed(self, name: str, function: Function | None) -> None:
        """A function has come, changed or gone."""
        if function is None:
            self._drains.pop(name, None)
            task = self._tasks.pop(name, None)
            if task is not None:
                task.cancel()
            self._forgetting = asyncio.get_running_loop().create_task(self._forget(name), name=f"forget {name}")
        elif name not in self._drains:
            self._start(name, self._make(name))
        else:
            self._drains[name].wake()

    async def _forget(self, name: str) -> None:
        """What was routed to the function while its deletion was on its way here ends with it, too."""
        with contextlib.suppress(StoreUnavailable):  # the next function of that name would run it: rare, and no loss
            await self._queue.forget(name)

    def _start(self, name: str, drain: Drain) -> None:
        self._drains[name] = drain
        self._tasks[name] = asyncio.get_running_loop().create_task(drain.run(), name=f"drain {name}")

    def wake(self, name: str) -> None:
        """The function may have work."""
        drain = self._drains.get(name)
        if drain is not None:
            drain.wake()

    async def adopted(self, name: str, slot: Slot | None, running: str) -> None:
        """A slot of an earlier life of this gateway has been taken over, or was lost."""
        drain = self._drains.get(name)
        if drain is not None:
            await drain.adopted(slot, running)

    async def look(self) -> None:
        """Looks at all queues now and then; runs for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                depths = await self._queue.depths(list(self._drains))
            except StoreUnavailable:
                continue
            for name, (depth, _) in depths.items():
                if depth:
                    self.wake(name)
            self._depths(depths)
