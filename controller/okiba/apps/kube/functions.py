"""Follows `Function` objects and makes them true in the registry; the registry is the truth, an object is a request.

    object ──watch, list──▶ agenda ──▶ reconcile(name): finalizer · secrets · package · record · status
    registry's changes ───────▲            slots that were taken or ended ──▶ status

Level-based, by name, like everything the controller does. A function that an object describes is changed by that alone;
what is not described by one is left to its own manager. Nothing is removed for not being listed: an object goes through
its finalizer, and one that went without it leaves its function in the hands of Lambda's API.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from okiba.adapters.kube_api import KubeApi
from okiba.adapters.kube_functions import (
    Declaration,
    Verdict,
    declaration,
    finalizers_patch,
    refused,
    same_status,
    status_of,
    verdict_on,
)
from okiba.adapters.kube_watch import Change, Listing, Watch
from okiba.apps.gateway.lambda_fields import configuration_changes
from okiba.apps.gateway.okiba_fields import attached, attachments, checked_bucket
from okiba.apps.kube.packages import Packages, Packed
from okiba.core.errors import (
    CallerError,
    Conflict,
    InvalidParameter,
    NotFound,
    NotLeading,
    PlatformError,
    PreconditionFailed,
)
from okiba.core.function import Function, to_prepare
from okiba.core.layer import layer_of
from okiba.core.limits import SUPPORTED_RUNTIMES
from okiba.core.names import checked_name
from okiba.core.preparation import given_up
from okiba.flow.deploy import API, KUBERNETES, check_manager, clear_away, create
from okiba.flow.rounds import Rounds
from okiba.ports import Keys, Logs, Queue, Registry

log = logging.getLogger(__name__)

REFRESH_S: Final = 60.0
"""How often ConfigMaps and Secrets are read again, which nobody announces."""

SLOTS_S: Final = 2.0
"""How often slots are counted, for the objects' status."""

AGAIN_MS: Final = 30_000
"""When an object is looked at again that waits for something that is not there."""

BROKEN_MS: Final = 30_000
"""The same after a failure that nobody foresaw."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where functions are kept.

    Args:
        make_bucket: The bucket is there when this returns.
        machine: What slots run on, as AWS spells it: `x86_64` or `arm64`.
        platform: The same as wheels spell it.
        slots: How many slots each function has.
        runtimes: Those that there are slots of.
    """

    registry: Registry
    keys: Keys
    queue: Queue
    logs: Logs
    packages: Packages
    make_bucket: Callable[[str], Awaitable[object]]
    machine: str
    platform: str
    slots: Callable[[], Mapping[str, int]]
    runtimes: Collection[str] = SUPPORTED_RUNTIMES


class FunctionObjects:
    """The objects of one namespace."""

    def __init__(self, api: KubeApi, around: Surroundings) -> None:
        self._api = api
        self._around = around
        self._declared: dict[str, Declaration] = {}
        self._doubted: set[str] = set()  # names that a list lacked: it is to be asked by name whether they are gone
        self._slots: Mapping[str, int] = {}
        self._rounds = Rounds(_steady_ms, random.random)

    async def run(self) -> None:
        """Follows until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._follow_registry())
            group.create_task(self._count_slots())
            group.create_task(self._refresh())
            group.create_task(self._rounds.work(self._reconciled))

    # --- what there is to look at -------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for news in Watch("functions", self._api.functions, self._api.watch_functions).follow():
            if isinstance(news, Listing):
                await self._saw_all([declaration(document) for document in news.objects])
            elif isinstance(news, Change):
                self._saw(declaration(news.object), gone=news.gone)

    async def _saw_all(self, listed: list[Declaration]) -> None:
        for declared in listed:
            self._saw(declared, gone=False)
        try:
            functions = await self._around.registry.all()
        except PlatformError:
            functions = []  # whose objects went unseen is found out by the next list
        known = {function.name for function in functions if function.managed_by == KUBERNETES} | self._declared.keys()
        for name in known - {declared.name for declared in listed}:
            self._doubted.add(name)
            self._rounds.add(name)

    def _saw(self, declared: Declaration, *, gone: bool) -> None:
        if gone:
            self._declared.pop(declared.name, None)
        else:
            self._declared[declared.name] = declared
        self._rounds.add(declared.name)

    async def _follow_registry(self) -> None:
        while True:
            try:
                async for what in self._around.registry.changes():
                    if what in self._declared:
                        self._rounds.add(what)
            except PlatformError as trouble:
                log.warning("changes cannot be followed", extra={"reason": str(trouble)})
                await asyncio.sleep(1.0)

    async def _count_slots(self) -> None:
        while True:
            now = dict(self._around.slots())
            for name in self._declared:
                if now.get(name, 0) != self._slots.get(name, 0):
                    self._rounds.add(name)
            self._slots = now
            await asyncio.sleep(SLOTS_S)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            for declared in list(self._declared.values()):
                if declared.secrets or "configMap" in (declared.spec.get("code") or {}):
                    self._rounds.add(declared.name)

    # --- working ------------------------------------------------------------------------------------------------------

    async def _reconciled(self, name: str) -> int | None:
        try:
            again_ms = await self.reconcile(name)
        except NotLeading:
            return None
        except (PlatformError, Conflict, PreconditionFailed) as trouble:
            log.warning("an object cannot be applied yet", extra={"function": name, "reason": str(trouble)})
            return self._rounds.failed(name)
        except Exception:  # one object that nobody foresaw must not end the loop for the others
            log.exception("an object broke its reconciliation", extra={"function": name})
            return BROKEN_MS
        self._rounds.succeeded(name)
        return again_ms

    # --- one object ---------------------------------------------------------------------------------------------------

    async def reconcile(self, name: str) -> int | None:
        """Makes what the object asks for true; the milliseconds after which to look again, None when all is well.

        Raises:
            PlatformError: Something was away.
            Conflict: The object, or the function, changed meanwhile.
        """
        if name in self._doubted:
            await self._look_for(name)
        declared = self._declared.get(name)
        if declared is None:
            await self._let_go(name)
            return None
        if declared.deleted:
            await self._remove(declared)
            return None
        if not declared.held:
            await self._api.call(self._api.patch_function, name, finalizers_patch(declared, held=True))
            return None  # the watch tells of it
        try:
            function, source = await self._applied(declared)
        except PreconditionFailed:
            raise  # somebody has just written the record
        except CallerError as refusal:
            reason = "Conflict" if isinstance(refusal, Conflict) else "Refused"
            await self._tell(declared, refused(str(refusal), reason), None, "")
            return AGAIN_MS
        await self._tell(declared, verdict_on(function), function, source)
        return None

    async def _applied(self, declared: Declaration) -> tuple[Function, str]:
        """The function as the object describes it, stored, and where its code was read.

        Raises:
            CallerError: The object is refused, or the function is in other hands.
        """
        around = self._around
        checked_name(declared.name)
        present = await around.registry.get(declared.name)
        if present is not None:
            check_manager(present, KUBERNETES)
        package = await around.packages.of(declared, present.code_sha256 if present else "")
        wanted = self._described(declared, package, await self._secret_values(declared), present)
        for bucket in declared.buckets:
            await around.make_bucket(checked_bucket(bucket))
        if present is None:
            return await create(around.registry, around.keys, wanted), package.source
        if wanted != present:
            await around.registry.put(wanted, replaces=present.revision)
        return wanted, package.source

    def _described(
        self, declared: Declaration, package: Packed, secrets: Mapping[str, str], present: Function | None
    ) -> Function:
        """What the object describes: the present function, if that is what it is; else a new revision to prepare."""
        around = self._around
        changes = configuration_changes(declared.configuration(secrets), around.runtimes, around.machine)
        wishes = attachments(declared.attachments(KUBERNETES, package.requirements))
        layer = None
        if wishes.requirements.strip():
            layer = layer_of(wishes.requirements, changes["runtime"], around.platform, allow_source=wishes.allow_source)
        base = present or Function(declared.name, "", "", "", 0, "", 0, "")
        changed = replace(
            attached(base, wishes, _wall_ms()),
            **changes,
            code_sha256=package.sha256,
            code_bytes=package.size,
            layer=layer,
        )
        limited = declared.limits()
        if present is not None and changed == present and not self._asks_again(declared, present):
            return replace(present, **limited)
        changed = replace(changed, **limited, last_modified_ms=_wall_ms())
        return changed if present is None else to_prepare(changed, str(uuid.uuid4()), present)

    def _asks_again(self, declared: Declaration, present: Function) -> bool:
        """Applied anew after it was refused: the user has the same tried again."""
        return given_up(present) and declared.status.get("observedGeneration") != declared.generation

    async def _secret_values(self, declared: Declaration) -> dict[str, str]:
        values: dict[str, str] = {}
        for wanted in declared.secrets:
            document = await self._api.call(self._api.secret, wanted.name)
            if document is None:
                raise NotFound(f"there is no Secret {wanted.name} in the function's namespace")
            encoded = (document.get("data") or {}).get(wanted.key)
            if encoded is None:
                raise NotFound(f"Secret {wanted.name} has no key {wanted.key}")
            try:
                values[wanted.variable] = base64.b64decode(encoded).decode()
            except ValueError as error:
                raise InvalidParameter(f"Secret {wanted.name}: {wanted.key} is not text") from error
        return values

    async def _remove(self, declared: Declaration) -> None:
        """The function goes, and the object may."""
        if not declared.held:
            return
        around = self._around
        present = await around.registry.get(declared.name)
        if present is not None and present.managed_by == KUBERNETES:
            await around.registry.delete(declared.name)
            log.info("function removed with its object", extra={"function": declared.name})
            await clear_away(around.keys, around.queue, around.logs, declared.name)
        elif present is None:  # a removal that was interrupted
            await clear_away(around.keys, around.queue, around.logs, declared.name)
        await self._api.call(self._api.patch_function, declared.name, finalizers_patch(declared, held=False))

    async def _look_for(self, name: str) -> None:
        """Asks for an object that a list lacked: an empty list is no reason to believe that anything has gone."""
        document = await self._api.call(self._api.function, name)
        self._doubted.discard(name)
        if document is None:
            self._declared.pop(name, None)
        else:
            self._declared[name] = declaration(document)

    async def _let_go(self, name: str) -> None:
        """The object has gone; a function that is still there is left to Lambda's API."""
        present = await self._around.registry.get(name)
        if present is not None and present.managed_by == KUBERNETES:
            log.warning("an object went without its finalizer; its function stays", extra={"function": name})
            await self._around.registry.put(replace(present, managed_by=API), replaces=present.revision)

    async def _tell(self, declared: Declaration, verdict: Verdict, function: Function | None, source: str) -> None:
        """Writes the status, if it is news."""
        slots = self._slots.get(declared.name, 0)
        status = status_of(declared, verdict, slots, function, source, _wall_ms())
        if not same_status(status, declared.status):
            await self._api.call(self._api.apply_status, declared.name, status)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000
