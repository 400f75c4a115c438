"""In-memory twins of what preparing functions stands on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from okiba.core.binding import Binding
from okiba.core.errors import InvalidParameter, NotFound, OkibaError, PlatformError, PreconditionFailed
from okiba.core.function import Function, Layer
from okiba.core.layer import LayerIntent, LayerPhase
from okiba.core.s3_policy import StoreUser
from okiba.ports import Census, Principal


class FakeRegistry:
    """Functions in a dict; whoever follows hears of every change."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.damaged: set[str] = set()
        self.away: OkibaError | None = None
        self.refusals = 0
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    def deploy(self, function: Function) -> None:
        """The function is new, or changed, as a gateway does it."""
        self.functions[function.name] = function
        self._heard.put_nowait(function.name)

    async def get(self, name: str) -> Function | None:
        self._answer()
        if name in self.damaged:
            raise PlatformError(f"the record of {name} is damaged")
        return self.functions.get(name)

    async def put(self, function: Function, *, replaces: str | None) -> None:
        self._answer()
        stored = self.functions.get(function.name)
        if (stored.revision if stored else None) != replaces or (stored and stored.generation != function.generation):
            raise PreconditionFailed("changed meanwhile")
        self.deploy(replace(function, generation=function.generation + 1))

    async def delete(self, name: str) -> bool:
        gone = self.functions.pop(name, None)
        self._heard.put_nowait(name)
        return gone is not None

    async def all(self) -> list[Function]:
        self._answer()
        return (await self.census()).functions

    async def census(self) -> Census:
        self._answer()
        readable = [function for function in self.functions.values() if function.name not in self.damaged]
        return Census(readable, sorted(self.damaged))

    async def changes(self) -> AsyncIterator[str]:
        while True:
            self._answer()
            yield await self._heard.get()

    def _answer(self) -> None:
        if self.away:
            self.refusals += 1
            raise self.away


class FakeKeys:
    """Key pairs in a dict."""

    def __init__(self) -> None:
        self.principals: dict[str, Principal] = {}

    async def get(self, access_key: str) -> Principal | None:
        return self.principals.get(access_key)

    async def put(self, principal: Principal) -> None:
        self.principals[principal.access_key] = principal

    async def delete(self, access_key: str) -> None:
        self.principals.pop(access_key, None)

    async def all(self) -> list[Principal]:
        return list(self.principals.values())


class FakeCodeShelf:
    """Remembers what was unpacked; `refused` digests cannot be, `trouble` befalls all others."""

    def __init__(self) -> None:
        self.unpacked: set[str] = set()
        self.refused: set[str] = set()
        self.broken: set[str] = set()
        self.trouble: OkibaError | None = None
        self.swept: list[set[str]] = []

    async def ensure(self, sha256: str) -> None:
        if sha256 in self.broken:
            raise RuntimeError("nobody foresaw this")
        if sha256 in self.refused:
            raise InvalidParameter(f"package {sha256} is refused")
        if self.trouble:
            raise self.trouble
        self.unpacked.add(sha256)

    async def sweep(self, referenced: Collection[str], now_ms: int) -> None:
        self.swept.append(set(referenced))


class FakeLayerShelf:
    """Layers that are there when `build` was called."""

    def __init__(self) -> None:
        self.built: set[str] = set()
        self.intents: dict[str, LayerIntent] = {}
        self.wanted: list[str] = []
        self.needed: set[str] = set()

    async def is_built(self, layer_hash: str) -> bool:
        return layer_hash in self.built

    async def read(self, layer_hash: str) -> LayerIntent | None:
        return self.intents.get(layer_hash)

    async def want(self, layer: Layer, runtime: str, now_ms: int) -> None:
        self.wanted.append(layer.hash)
        self.intents[layer.hash] = LayerIntent(layer, runtime, LayerPhase.WANTED, changed_ms=now_ms)

    async def sweep(self, needed: Callable[[], Collection[str]], now_ms: int) -> None:
        self.needed = set(needed())

    def fail(self, layer: Layer, error: str, at_ms: int) -> None:
        """A job could not build it and never will."""
        self.intents[layer.hash] = LayerIntent(layer, "python3.11", LayerPhase.FAILED, error=error, changed_ms=at_ms)


class FakeStoreAdmin:
    """Buckets with the bindings they announce, and users."""

    def __init__(self) -> None:
        self.announced: dict[str, set[Binding]] = {}
        self.policies: dict[StoreUser, Mapping[str, Any]] = {}
        self.secrets: dict[str, str] = {}
        self.disabled: set[str] = set()
        self.away: OkibaError | None = None

    def buckets(self) -> list[str]:
        self._answer()
        return list(self.announced)

    def ensure_bucket(self, bucket: str) -> None:
        self._answer()
        self.announced.setdefault(bucket, set())

    def announce(self, bucket: str, bindings: Iterable[Binding], *, only_add: bool = False) -> bool:
        self._answer()
        if bucket not in self.announced:
            raise NotFound(f"no bucket {bucket}")
        wanted = {binding for binding in bindings if binding.bucket == bucket}
        if only_add:
            wanted |= self.announced[bucket]
        changed = self.announced[bucket] != wanted
        self.announced[bucket] = wanted
        return changed

    def users(self) -> list[StoreUser]:
        self._answer()
        return list(self.policies)

    def ensure_user(self, user: StoreUser, secret: str, policy: Mapping[str, Any], *, enabled: bool = True) -> None:
        self._answer()
        self.policies[user] = policy
        self.secrets[user.access_key] = secret
        (self.disabled.discard if enabled else self.disabled.add)(user.access_key)

    def remove_user(self, user: StoreUser) -> None:
        self._answer()
        self.policies.pop(user, None)
        self.secrets.pop(user.access_key, None)

    def _answer(self) -> None:
        if self.away:
            raise self.away
