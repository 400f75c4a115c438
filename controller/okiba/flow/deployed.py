"""All functions as the registry has them, for whoever needs their records and nothing else of the registry.

A gateway, which also needs keys and what calls run, has a `Catalogue`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final

from okiba.core.errors import PlatformError
from okiba.core.function import Function
from okiba.ports import Registry

log = logging.getLogger(__name__)

PAUSE_S: Final = 1.0


class Deployed:
    """Functions by name; while the registry is away they stay as they were."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._functions: dict[str, Function] = {}

    @property
    def functions(self) -> Collection[Function]:
        """All of them."""
        return self._functions.values()

    async def follow(self, changed: Callable[[], None]) -> None:
        """Keeps them true for ever; calls `changed` after each time that they may have become others."""
        while True:
            try:
                self._functions = {function.name: function for function in await self._registry.all()}
                changed()
                async for name in self._registry.changes():
                    if not name.startswith("key:"):
                        await self._reread(name)
                        changed()
            except PlatformError as error:
                log.warning("the registry cannot be read", extra={"reason": str(error)})
                await asyncio.sleep(PAUSE_S)

    async def _reread(self, name: str) -> None:
        function = await self._registry.get(name)
        if function is None:
            self._functions.pop(name, None)
        else:
            self._functions[name] = function
