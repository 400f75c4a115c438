"""One `Drain` for each function that this gateway owns, begun and ended as they change hands, and woken for work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from okiba.core.errors import StoreUnavailable
from okiba.flow.dispatch import Drain
from okiba.flow.inherit import Inheritance
from okiba.ports import Queue, Slot

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the queues are looked at for retries that have become due, and for work that nobody announced."""


class Drains:
    """All drains of this gateway.

    Args:
        make: Makes a function's drain.
        depths: Told of each owned function (waiting and delayed, age of the oldest in ms), for metrics.
    """

    def __init__(
        self,
        queue: Queue,
        make: Callable[[str, Inheritance], Drain],
        depths: Callable[[dict[str, tuple[int, int]]], None],
    ) -> None:
        self._queue = queue
        self._make = make
        self._depths = depths
        self._drains: dict[str, Drain] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._forgetting: asyncio.Task[None] | None = None

    async def begin(self, name: str, inheritance: Inheritance) -> None:
        """Leases again what a former owner had, and empties the queue from now on.

        Raises:
            StoreUnavailable: To be called again.
        """
        if name in self._drains:  # the owner was this gateway, in a life that was taken for dead: its work goes on
            self._drains[name].wake()
            return
        drain = self._make(name, inheritance)
        await drain.recover()
        self._drains[name] = drain
        self._tasks[name] = asyncio.get_running_loop().create_task(drain.run(), name=f"drain {name}")

    async def end(self, name: str) -> None:
        """The queue is let alone, and what is leased of it left to the next owner."""
        task, drain = self._tasks.pop(name, None), self._drains.pop(name, None)
        if task is not None:
            task.cancel()
        if drain is not None:
            await drain.abandon()

    def forget(self, name: str) -> None:
        """The function is gone: what was routed to it while its deletion was on its way here ends with it, too."""
        task, _ = self._tasks.pop(name, None), self._drains.pop(name, None)
        if task is not None:
            task.cancel()
        self._forgetting = asyncio.get_running_loop().create_task(self._forget(name), name=f"forget {name}")

    async def _forget(self, name: str) -> None:
        with contextlib.suppress(StoreUnavailable):  # the next function of that name would run it: rare, and no loss
            await self._queue.forget(name)

    def wake(self, name: str) -> bool:
        """The function may have work; False when its queue is not emptied here."""
        drain = self._drains.get(name)
        if drain is not None:
            drain.wake()
        return drain is not None

    async def adopted(self, name: str, slot: Slot | None, running: str) -> None:
        """A slot of a former owner's has been taken over, or was lost."""
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
