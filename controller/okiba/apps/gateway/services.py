"""What the control plane's HTTP API needs of the rest of the process, and whom it serves."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request, Response

from okiba.adapters.redis_sweeps import RedisSweeps
from okiba.adapters.s3_store import S3Store
from okiba.apps.gateway.access import ADMIN
from okiba.core import policy, strict_json
from okiba.core.errors import AccessDenied, Conflict, NotFound, PlatformError, PreconditionFailed, RequestTooLarge
from okiba.core.function import Function
from okiba.core.layer import LayerIntent
from okiba.core.names import Home
from okiba.flow.catalogue import bound_buckets
from okiba.flow.deploy import API, check_manager
from okiba.ports import Inbox, Keys, Logs, Principal, Queue, Registry
from okiba.settings import Settings

MAX_BODY = 128 * 1024  # of every request but those that carry code; parsed in the loop: 5 ms at worst, measured
_ATTEMPTS = 5

log = logging.getLogger(__name__)


async def _nobody(_name: str) -> None:
    """For a control plane without a data path beside it."""


@dataclass(frozen=True, slots=True)
class ControlServices:
    """Everything the API touches.

    Args:
        spool: Folder of this process alone, for bodies of requests while they are read.
        runtimes: Runtimes with an interpreter on this machine, such as `python3.11`.
        machine: What slots run on, as AWS spells architectures: `x86_64` or `arm64`.
        platform: The same as wheels spell it: `sysconfig.get_platform()`.
        layer: How far a layer has come, by its hash.
        status: The whole answer of `GET /okiba/v1/status`.
        recent: A function's last invocations in this process, oldest first.
        now_ms: Wall clock.
        wake: Told of a function whose queue has got work.
        changed: Told each function's name that was written, and awaited before the request is answered, so that this
            process knows what its caller has just done.
        readers: How many packages may be read at a time; each takes a core for up to two seconds.
    """

    settings: Settings
    registry: Registry
    keys: Keys
    queue: Queue
    logs: Logs
    inbox: Inbox
    store: S3Store
    sweeps: RedisSweeps
    spool: Path
    runtimes: Callable[[], Collection[str]]
    machine: str
    platform: str
    layer: Callable[[str], Awaitable[LayerIntent | None]]
    status: Callable[[], Awaitable[Mapping[str, Any]]]
    recent: Callable[[str], Sequence[Mapping[str, object]]]
    now_ms: Callable[[], int]
    wake: Callable[[str], None]
    changed: Callable[[str], Awaitable[None]] = _nobody
    readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    @property
    def home(self) -> Home:
        """Region and account of this installation's ARNs."""
        return Home(self.settings.region, self.settings.account_id)

    async def existing(self, name: str) -> Function:
        """The function.

        Raises:
            NotFound: There is none of that name.
        """
        function = await self.registry.get(name)
        if function is None:
            raise NotFound(f"Function not found: {self.home.arn(name)}")
        return function

    async def bound_buckets(self) -> list[str]:
        """Every bucket that a function is bound to."""
        return bound_buckets(await self.registry.all())

    async def edit(
        self,
        name: str,
        change: Callable[[Function], Function],
        revision: str | None = None,
        *,
        whoevers: bool = False,
    ) -> Function:
        """The function as `change` has made it, stored.

        Args:
            change: Called again on what another writer has stored meanwhile; what it returns unchanged is not stored.
            revision: The caller's RevisionId; None when he does not care.
            whoevers: Whoever manages the function: this is none of what he describes.

        Raises:
            NotFound: There is none of that name.
            PreconditionFailed: `revision` is not the current one.
            Conflict: Others were faster five times, or a `Function` object manages it.
        """
        for _ in range(_ATTEMPTS):
            present = await self.existing(name)
            if not whoevers:
                check_manager(present, API)
            check_revision(present, revision)
            wanted = change(present)
            if wanted == present:
                return present
            try:
                await self.registry.put(wanted, replaces=present.revision)
            except PreconditionFailed:
                continue
            await self.make_known(name)
            return wanted
        raise Conflict(
            "The operation cannot be performed at this time. An update is in progress for resource: "
            f"{self.home.arn(name)}"
        )

    async def make_known(self, name: str) -> None:
        """Tells the rest of the process that the function was written; that it cannot look now undoes no write."""
        try:
            await self.changed(name)
        except PlatformError as error:
            log.warning("a change is not seen at once", extra={"function": name, "reason": str(error)})

    async def authorise(self, request: Request, action: str, resource: str) -> None:
        """Returns if the caller may do this.

        Raises:
            AccessDenied: He is neither the administrator nor a function whose statements say so.
        """
        if not await self._may(request, lambda function: policy.allows(function.statements, action, resource)):
            raise _denied(request, action, resource)

    async def authorise_somewhere(self, request: Request, action: str) -> None:
        """As `authorise`, before it is known on what: returns if there is anything the caller may do this to."""
        if not await self._may(request, lambda function: policy.mentions(function.statements, action)):
            raise _denied(request, action, "*")

    async def _may(self, request: Request, allowed: Callable[[Function], bool]) -> bool:
        caller = principal_of(request)
        if caller.name == ADMIN:
            return True
        function = await self.registry.get(caller.name)
        # A function of the same name made after this key was issued is somebody else.
        return function is not None and function.access_key == caller.access_key and allowed(function)


def check_revision(function: Function, revision: str | None) -> None:
    """Returns if the caller's RevisionId, if he gave one, is the current one.

    Raises:
        PreconditionFailed: It is not.
    """
    if revision is not None and revision != function.revision:
        raise PreconditionFailed(
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to "
            f"retrieve the latest Revision Id: got {revision[:64]!r}, current is {function.revision!r}"
        )


def principal_of(request: Request) -> Principal:
    """Who signed the request, as the data path found out before it came here."""
    principal = request.scope.get("okiba.principal")
    if not isinstance(principal, Principal) or not principal.enabled:
        raise AccessDenied("Missing Authentication Token", "MissingAuthenticationTokenException")
    return principal


def require_admin(request: Request) -> None:
    """Returns if the administrator calls.

    Raises:
        AccessDenied: Somebody else does.
    """
    if principal_of(request).name != ADMIN:
        raise AccessDenied(f"{request.url.path} is for the administrator alone")


async def json_body(request: Request, operation: str) -> dict[str, Any]:
    """The request's body, a JSON object of at most 128 KiB.

    Raises:
        RequestTooLarge: It is larger.
        InvalidRequestContent: It is no JSON object.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise RequestTooLarge(len(body), MAX_BODY, operation)
    return strict_json.parsed_object(bytes(body))


def answer_json(content: object, status: int = 200) -> Response:
    """A response as AWS's JSON services send it; None is one without a body."""
    body = b"" if content is None else json.dumps(content).encode()
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    return Response(body, status, headers, media_type="application/json" if body else None)


def _denied(request: Request, action: str, resource: str) -> AccessDenied:
    return AccessDenied(
        f"User: {principal_of(request).name} is not authorized to perform: {action} on resource: {resource} "
        f"because no identity-based policy allows the {action} action"
    )
