"""Makes true what the registry says of a function: its code, its layers, its user and its buckets' rules.

Level-based: a reconciliation is told a name and nothing else, looks at how things are, and changes what differs; it
may run at any time, any number of times. What waiting can mend is raised (PlatformError) and tried again; what it
cannot is written into the function's record, and only a new revision is tried.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from okiba.core.binding import Binding
from okiba.core.errors import CallerError, InvalidParameter, NotFound, PlatformError, PreconditionFailed
from okiba.core.function import Function, Layer, invocable
from okiba.core.layer import LayerIntent, LayerPhase, asks_anew, base_layer
from okiba.core.notification import unknown_events
from okiba.core.preparation import given_up, prepared, refused, waiting
from okiba.core.s3_policy import StoreUser, s3_policy
from okiba.ports import CodeShelf, Keys, LayerShelf, Principal, Registry, StoreAdmin

log = logging.getLogger(__name__)

LAYER_POLL_MS: Final = 300


@dataclass(frozen=True, slots=True)
class Parts:
    """What a function is made of.

    Args:
        runtimes: Those whose base layer is built before any function asks for it.
        platform: What layers' wheels are for, `sysconfig.get_platform()`.
        now_ms: The wall clock.
    """

    registry: Registry
    keys: Keys
    code: CodeShelf
    layers: LayerShelf
    store: StoreAdmin
    runtimes: tuple[str, ...]
    platform: str
    now_ms: Callable[[], int]


class Reconciler:
    """Prepares functions and clears away after those that are gone.

    It remembers every function, because a bucket's rules depend on all of them; each survey reads them anew. While
    one of them cannot be read it removes nothing: what looks like nobody's may be that one's.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._functions: dict[str, Function] = {}
        self._unannounced: dict[str, set[str]] = {}  # buckets whose rules a function's last change has to reach
        self._announcing = asyncio.Lock()
        self._surveyed = False
        self._unreadable: set[str] = set()
        self._left_behind = False  # a survey has passed over what is nobody's, because a record could not be read

    async def reconcile(self, name: str) -> int | None:
        """Makes what the name stands for true: None when it is, else the milliseconds after which to look again.

        Raises:
            PlatformError: Something was away; to be called again later.
        """
        if not self._surveyed:
            await self.survey()
        function = await self._read(name)
        self._remember(name, function)
        if function is None:
            await self._remove(name)
            return None
        if given_up(function):
            await self._sustain(function)
            return None
        try:
            waits_for = await self._prepare(function)
        except CallerError as refusal:
            log.warning("function refused", extra={"function": name, "reason": str(refusal)})
            return await self._tell(function, refused(function, str(refusal)))
        except PlatformError as trouble:
            await self._tell(function, waiting(function, str(trouble)))
            raise
        if waits_for:
            return await self._tell(function, waiting(function, waits_for)) or LAYER_POLL_MS
        return await self._tell(function, prepared(function))

    async def survey(self) -> set[str]:
        """Reads everything anew and clears away what belongs to nobody; returns every name worth a look.

        Raises:
            PlatformError: Something was away.
        """
        census = await self._parts.registry.census()
        functions = {function.name: function for function in census.functions}
        self._unreadable = set(census.unreadable)
        names = (functions.keys() | self._functions.keys()) - self._unreadable
        for name in names:
            self._remember(name, functions.get(name))
        for runtime in self._parts.runtimes:
            await self._ask_for(base_layer(runtime, self._parts.platform), runtime)
        first, self._surveyed = not self._surveyed, True
        try:
            await self._clear(everywhere=first or self._left_behind)
        except BaseException:
            self._surveyed = not first
            raise
        return set(names)

    def functions_of_key(self, access_key: str) -> list[str]:
        """Names of the functions that the key pair belongs to."""
        return [function.name for function in self._functions.values() if function.access_key == access_key]

    # --- one function -----------------------------------------------------------------------------------------------

    async def _read(self, name: str) -> Function | None:
        try:
            function = await self._parts.registry.get(name)
        except PlatformError:
            self._unreadable.add(name)
            raise
        self._unreadable.discard(name)
        return function

    async def _sustain(self, function: Function) -> None:
        """What calls go on running has its code, its user and its rules, although its newest change was refused."""
        running = invocable(function)
        if running is None:
            return
        try:
            await self._parts.code.ensure(running.code_sha256)
            await self._furnish(running)
        except CallerError as refusal:
            extra = {"function": function.name, "reason": str(refusal)}
            log.warning("what runs cannot be kept as it was", extra=extra)

    async def _prepare(self, function: Function) -> str:
        """Changes what differs; returns what has to be waited for, empty when nothing has."""
        for binding in function.bindings:
            if unknown := unknown_events(binding):
                raise InvalidParameter(f"event {binding.id}: the object store does not announce {', '.join(unknown)}")
        await self._parts.code.ensure(function.code_sha256)
        for layer in (base_layer(function.runtime, self._parts.platform), function.layer):
            if layer and (waits_for := await self._missing(layer, function)):
                return waits_for
        await self._furnish(function)
        return ""

    async def _furnish(self, function: Function) -> None:
        """What this revision has at the object store: its user, its buckets, their rules."""
        await self._ensure_user(function)
        for bucket in sorted(_buckets(function.bindings)):
            await asyncio.to_thread(self._parts.store.ensure_bucket, bucket)
        await self._announce(function.name)

    async def _missing(self, layer: Layer, function: Function) -> str:
        """What the layer waits for, empty when it is there; asks for it where nobody has."""
        if await self._parts.layers.is_built(layer.hash):
            return ""
        intent = await self._ask_for(layer, function.runtime, function.last_modified_ms)
        if intent and intent.phase is LayerPhase.FAILED:
            raise InvalidParameter(intent.error)
        trouble = f" The last attempt failed: {intent.error}" if intent and intent.error else ""
        what = "the layer of its requirements" if layer == function.layer else f"boto3 and minio for {function.runtime}"
        return f"Building {what}.{trouble}"

    async def _ask_for(self, layer: Layer, runtime: str, asked_ms: int = 0) -> LayerIntent | None:
        """What is known of building the layer; None when it has only now been asked for, or is there."""
        layers = self._parts.layers
        if await layers.is_built(layer.hash):
            return None
        intent = await layers.read(layer.hash)
        if intent and not asks_anew(intent, asked_ms):
            return intent
        await layers.want(layer, runtime, self._parts.now_ms())
        return None

    async def _ensure_user(self, function: Function) -> None:
        principal = await self._parts.keys.get(function.access_key)
        if principal is None:
            raise PlatformError(f"the key {function.access_key} of function {function.name} is not in the key store")
        await asyncio.to_thread(self._ensure_user_of, function, principal)

    def _ensure_user_of(self, function: Function, principal: Principal) -> None:
        user = StoreUser(function.name, function.access_key)
        policy = s3_policy(function.statements)
        self._parts.store.ensure_user(user, principal.secret, policy, enabled=principal.enabled)

    async def _tell(self, function: Function, now: Function) -> int | None:
        """Writes what has become of the function, if that is news; 0 when the record has changed meanwhile."""
        if now == function:
            return None
        try:
            await self._parts.registry.put(now, replaces=function.revision)
        except PreconditionFailed:
            return 0
        extra = {"function": now.name, "state": now.state, "update": now.last_update, "reason": now.state_reason}
        log.info("function's state", extra=extra)
        return None

    async def _remove(self, name: str) -> None:
        await self._announce(name)
        await self._remove_strangers()

    # --- what functions share ---------------------------------------------------------------------------------------

    def _remember(self, name: str, function: Function | None) -> None:
        former = self._functions.pop(name, None)
        if function is not None:
            self._functions[name] = function
        touched = _buckets((*_bindings(former), *_bindings(function)))
        self._unannounced.setdefault(name, set()).update(touched)

    async def _announce(self, name: str) -> None:
        """Brings the rules of every bucket up to date that the function has, or had, to do with."""
        for bucket in sorted(self._unannounced.get(name, ())):
            await self._announce_bucket(bucket)
        self._unannounced.pop(name, None)

    async def _announce_bucket(self, bucket: str) -> None:
        async with self._announcing:
            bindings = [binding for function in self._functions.values() for binding in _bindings(function)]
            announce = partial(self._parts.store.announce, bucket, bindings, only_add=bool(self._unreadable))
            with suppress(NotFound):  # a bucket that its owner has removed announces nothing
                if await asyncio.to_thread(announce):
                    log.info("bucket's rules changed", extra={"bucket": bucket})

    async def _clear(self, *, everywhere: bool) -> None:
        """Removes what functions left behind that are gone.

        Args:
            everywhere: Also rules in buckets that no function names: after a start, when a deletion may have been
                missed.
        """
        if self._unreadable:
            self._left_behind = True
            log.warning("nothing is cleared away: unreadable records", extra={"functions": sorted(self._unreadable)})
            return
        await self._remove_strangers()
        if everywhere:
            for bucket in await asyncio.to_thread(self._parts.store.buckets):
                await self._announce_bucket(bucket)
        revisions = [revision for function in self._functions.values() for revision in _revisions(function)]
        referenced = {revision.code_sha256 for revision in revisions}
        await self._parts.code.sweep(referenced, self._parts.now_ms())
        await self._parts.layers.sweep(self._needed_layers, self._parts.now_ms())
        self._left_behind = False

    def _needed_layers(self) -> set[str]:
        """Hashes of functions' own layers, and of those that all functions of a runtime have beneath them."""
        revisions = [revision for function in self._functions.values() for revision in _revisions(function)]
        runtimes = {*self._parts.runtimes, *(revision.runtime for revision in revisions)}
        own = {revision.layer.hash for revision in revisions if revision.layer}
        return own | {base_layer(runtime, self._parts.platform).hash for runtime in runtimes}

    async def _remove_strangers(self) -> None:
        if self._unreadable:
            return
        for user in await asyncio.to_thread(self._parts.store.users):
            function = self._functions.get(user.function)
            if function is None or function.access_key != user.access_key:
                await asyncio.to_thread(self._parts.store.remove_user, user)
                log.info("user removed", extra={"function": user.function})


def _revisions(function: Function | None) -> tuple[Function, ...]:
    """The newest, and the one that calls run as long as that is another."""
    if function is None:
        return ()
    running = invocable(function)
    return (function,) if running is None or running is function else (function, running)


def _bindings(function: Function | None) -> list[Binding]:
    """Of all its revisions: what runs goes on being told of events while a change is prepared, or was refused."""
    return [binding for revision in _revisions(function) for binding in revision.bindings]


def _buckets(bindings: Iterable[Binding]) -> set[str]:
    return {binding.bucket for binding in bindings}
