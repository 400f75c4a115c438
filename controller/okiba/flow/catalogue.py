"""The registry as this gateway sees it: functions and keys in memory, followed as they change.

A call looks a function up here and nowhere else, so that it asks no store. A change shows within a second: the
registry's change stream is followed, and everything is read again after a gap in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from okiba.core.binding import Binding
from okiba.core.errors import PlatformError, StoreUnavailable
from okiba.core.function import Function, UpdateStatus, invocable
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
        self._routed: list[Function] = []
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

    def names(self) -> Collection[str]:
        """All functions' names."""
        return self._functions.keys()

    def functions_of_bucket(self, bucket: str) -> list[Function]:
        """Functions with a binding to the bucket, as routing is to see them.

        While a change is being prepared its bindings count beside those of what runs: the bucket may announce for both
        already, and an event for a function that is not ready yet waits in its queue. A refused change's do not.
        """
        return [function for function in self._routed if any(binding.bucket == bucket for binding in function.bindings)]

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
            await self._refresh_function(name)  # gone, or there but not to be read: which, decides about its queue
        for name, function in functions.items():
            self._set(name, function)
        self.loaded.set()

    async def _apply(self, what: str) -> None:
        kind, colon, access_key = what.partition(":")
        if colon and kind == "key":
            await self._refresh_key(access_key)
        else:
            await self._refresh_function(what)

    async def _refresh_function(self, name: str) -> None:
        try:
            self._set(name, await self._registry.get(name))
        except StoreUnavailable:
            raise
        except PlatformError as error:  # a record that cannot be read: what was known goes on
            log.warning("a function's record cannot be read", extra={"function": name, "reason": str(error)})

    async def _refresh_key(self, access_key: str) -> None:
        try:
            principal = await self._keys.get(access_key)
        except StoreUnavailable:
            raise
        except PlatformError as error:
            log.warning("a key cannot be read", extra={"access_key": access_key, "reason": str(error)})
            return
        if principal is None:
            self._principals.pop(access_key, None)
        else:
            self._principals[access_key] = principal

    async def refresh(self, name: str) -> None:
        """Reads one function (and its key) again now: a caller who has just created it must find it.

        Raises:
            StoreUnavailable: What was known before stands.
        """
        await self._refresh_function(name)
        function = self._functions.get(name)
        if function is not None:
            await self._refresh_key(function.access_key)

    def _set(self, name: str, function: Function | None) -> None:
        if function == self._functions.get(name):
            return
        self._routed = [other for other in self._routed if other.name != name]
        if function is None:
            self._functions.pop(name, None)
            self._invocable.pop(name, None)
        else:
            self._functions[name] = function
            self._routed.append(replace(function, bindings=routed_bindings(function)))
            runs = invocable(function)
            # Equal means the same: the data path asks by identity whether its slots are of the revision that runs.
            if runs is None:
                self._invocable.pop(name, None)
            elif runs != self._invocable.get(name):
                self._invocable[name] = runs
        self.on_change(name, function)


def bound_buckets(functions: Iterable[Function]) -> list[str]:
    """Every bucket of which a function gets events right now, sorted."""
    return sorted({binding.bucket for function in functions for binding in routed_bindings(function)})


def routed_bindings(function: Function) -> tuple[Binding, ...]:
    """The bindings that events are routed by right now."""
    if function.running is None:
        return function.bindings
    if function.last_update is UpdateStatus.FAILED:
        return function.running.bindings
    return tuple(dict.fromkeys((*function.running.bindings, *function.bindings)))
