"""The registry as this gateway sees it: functions and keys in memory, followed as they change.

A call looks a function up here and nowhere else, so that it asks no store. A change shows within a second: the
registry's change stream is followed, and everything is read again after a gap in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from okiba.core.errors import StoreUnavailable
from okiba.core.function import Function, invocable
from okiba.ports import Keys, Principal, Registry

log = logging.getLogger(__name__)

_PAUSE_S = 0.5


class Catalogue:
    """Functions by name, and keys by access key.

    Args:
        on_change: Told of each function that is new or changed, and by name of each that is gone (None).
    """

    def __init__(self, registry: Registry, keys: Keys) -> None:
        self._registry = registry
        self._keys = keys
        self._functions: dict[str, Function] = {}
        self._invocable: dict[str, Function] = {}
        self._principals: dict[str, Principal] = {}
        self.on_change: Callable[[str, Function | None], None] = lambda _name, _function: None
        self.loaded = asyncio.Event()

    def function(self, name: str) -> Function | None:
        """The function of that name, as of the last second."""
        return self._functions.get(name)

    def invocable(self, name: str) -> Function | None:
        """The revision of it that calls run: the newest that is prepared; None when there is none yet."""
        return self._invocable.get(name)

    def functions(self) -> Iterable[Function]:
        """All functions."""
        return self._functions.values()

    def functions_of_bucket(self, bucket: str) -> list[Function]:
        """Functions with a binding to the bucket."""
        return [
            function
            for function in self._functions.values()
            if any(binding.bucket == bucket for binding in function.bindings)
        ]

    def principal(self, access_key: str) -> Principal | None:
        """Whose key it is."""
        return self._principals.get(access_key)

    def principal_of_function(self, function: Function) -> Principal | None:
        """The function's own key pair."""
        return self._principals.get(function.access_key)

    async def follow(self) -> None:
        """Keeps the catalogue true; runs for ever, through any absence of the store."""
        while True:
            try:
                changes = self._registry.changes()
                await self.load()
                async for what in changes:
                    await self._apply(what)
            except StoreUnavailable as error:
                log.warning("registry unavailable, going on with what is known", extra={"reason": str(error)})
                await asyncio.sleep(_PAUSE_S)

    async def load(self) -> None:
        """Reads everything.

        Raises:
            StoreUnavailable: What was known before stands.
        """
        functions = {function.name: function for function in await self._registry.all()}
        principals = {principal.access_key: principal for principal in await self._keys.all()}
        self._principals = principals
        for name in [name for name in self._functions if name not in functions]:
            self._set(name, None)
        for name, function in functions.items():
            self._set(name, function)
        self.loaded.set()

    async def _apply(self, what: str) -> None:
        kind, colon, access_key = what.partition(":")
        if colon and kind == "key":
            await self._refresh_key(access_key)
        else:
            self._set(what, await self._registry.get(what))

    async def _refresh_key(self, access_key: str) -> None:
        principal = await self._keys.get(access_key)
        if principal is None:
            self._principals.pop(access_key, None)
        else:
            self._principals[access_key] = principal

    async def refresh(self, name: str) -> None:
        """Reads one function (and its key) again now: a caller who has just created it must find it.

        Raises:
            StoreUnavailable: What was known before stands.
        """
        function = await self._registry.get(name)
        if function is not None:
            await self._refresh_key(function.access_key)
        self._set(name, function)

    def _set(self, name: str, function: Function | None) -> None:
        if function == self._functions.get(name):
            return
        if function is None:
            self._functions.pop(name, None)
            self._invocable.pop(name, None)
        else:
            self._functions[name] = function
            runs = invocable(function)
            # Equal means the same: the data path asks by identity whether its slots are of the revision that runs.
            if runs is None:
                self._invocable.pop(name, None)
            elif runs != self._invocable.get(name):
                self._invocable[name] = runs
        self.on_change(name, function)
