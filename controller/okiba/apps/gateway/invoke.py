"""Lambda's Invoke: the data path. One look-up, one slot, bytes passed through.

`RequestResponse` touches no store; `Event` is a durable message in front of the same hops; `DryRun` only asks whether
one may.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Container
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from okiba.apps.gateway.access import EVERYONE, Access, digest
from okiba.apps.gateway.http import Call, Head, Reply, error_reply
from okiba.apps.gateway.runs import Elsewhere, Runs
from okiba.apps.gateway.server import Admission
from okiba.core import names, strict_json
from okiba.core.errors import (
    Conflict,
    InvalidParameter,
    InvalidRequestContent,
    NotFound,
    NotOwner,
    OkibaError,
)
from okiba.core.function import LATEST
from okiba.core.ids import new_request_id
from okiba.core.invocation import Invocation
from okiba.flow.catalogue import Catalogue
from okiba.ports import Queue, Work

PREFIX: Final = "/2015-03-31/functions/"
SUFFIX: Final = "/invocations"
MAX_SYNC: Final = 6_291_456
MAX_ASYNC: Final = 1_048_576
MAX_CONTEXT: Final = 3_583
MAX_TRACE: Final = 512
CHECKED_HERE: Final = 256 * 1024
"""Up to here the gateway checks that a payload is JSON (0.5 ms at most); a larger one the worker checks, who reads it
anyway, so that nobody else's call waits behind it."""

_KIND: Final = "x-amz-invocation-type"
_SYNC: Final = Admission(MAX_SYNC, operation="InvokeFunction")
_ASYNC: Final = Admission(MAX_ASYNC, operation="InvokeFunction")


class _Named(NamedTuple):
    """A function as a call names it; the ARN of the call has the qualifier as the caller gave it."""

    name: str
    arn: str
    invoked_arn: str


class InvokeApi:
    """`POST /2015-03-31/functions/{name}/invocations`.

    Args:
        held: The functions that this gateway owns.
        woken: Told a function's name when its queue has got work.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        access: Access,
        held: Container[str],
        runs: Runs,
        elsewhere: Elsewhere,
        queue: Queue,
        home: names.Home,
        woken: Callable[[str], None],
    ) -> None:
        self._catalogue = catalogue
        self._access = access
        self._held = held
        self._runs = runs
        self._elsewhere = elsewhere
        self._queue = queue
        self._home = home
        self._woken = woken
        self._named = lru_cache(maxsize=4096)(self._name)

    def admit(self, head: Head) -> Admission:
        """What the call may send."""
        return _ASYNC if head.headers.get(_KIND) == "Event" else _SYNC

    async def answer(self, call: Call) -> Reply:
        """The answer to one call."""
        request_id = new_request_id()
        try:
            return await self._serve(call.head, call.body, request_id)  # type: ignore[arg-type]  # never spooled
        except OkibaError as error:
            return error_reply(error, request_id)

    async def _serve(self, head: Head, body: bytes, request_id: str) -> Reply:
        accepted_s = time.time()
        headers = head.headers
        claim = head.claim
        caller = self._access.prove(claim, head, await digest(body)) if claim else EVERYONE
        named = self._name(head.path, head.query) if head.query else self._named(head.path)
        function = self._catalogue.invocable(named.name)
        if function is None:
            raise self._why_not(named.name)
        if caller is not EVERYONE:
            self._access.check_invoke(caller, named.arn)
        kind = headers.get(_KIND, "RequestResponse")
        if not body:
            body = b"{}"
        elif len(body) <= CHECKED_HERE:
            strict_json.parsed(body)
        elif kind == "Event":
            await asyncio.to_thread(strict_json.parsed, body)  # nobody else would tell the caller
        invocation = Invocation(
            request_id,
            function.name,
            body,
            named.invoked_arn,
            kind == "Event",
            _client_context(headers.get("x-amz-client-context")),
            headers.get("x-amzn-trace-id", "")[:MAX_TRACE],
        )
        if kind == "RequestResponse":
            tail = headers.get("x-amz-log-type") == "Tail"
            if function.name in self._held:
                try:
                    return await self._runs.here(function, invocation, accepted_s, tail=tail)
                except NotOwner:  # it changed hands while the call waited
                    pass
            return await self._elsewhere.call(function, invocation, accepted_s, tail=tail)
        if kind == "Event":
            await self._accept(invocation, accepted_s)
            return Reply(202, [(b"x-amzn-requestid", request_id.encode())])
        if kind == "DryRun":
            return Reply(204, [(b"x-amzn-requestid", request_id.encode())])
        raise InvalidParameter(f"InvocationType must be RequestResponse, Event or DryRun, got {kind[:40]!r}")

    def _name(self, path: str, query: str = "") -> _Named:
        """Which function a request's target names."""
        qualifier = parse_qs(query).get("Qualifier", [""])[0] if query else ""
        reference = names.resolve(path[len(PREFIX) : -len(SUFFIX)], self._home, qualifier)
        name = reference.name
        return _Named(name, self._home.arn(name), self._home.arn(name, reference.qualifier))

    def _why_not(self, name: str) -> OkibaError:
        function = self._catalogue.function(name)
        if function is None:
            return NotFound(f"Function not found: {self._home.arn(name, LATEST)}")
        return Conflict(
            "The operation cannot be performed at this time. "
            f"The function is currently in the following state: {function.state}"
            + (f" ({function.state_reason})" if function.state_reason else "")
        )

    async def _accept(self, invocation: Invocation, accepted_s: float) -> None:
        work = Work(
            invocation.function,
            invocation.request_id,
            invocation.request_id,
            invocation.payload,
            "invoke",
            int(accepted_s * 1000),
            invocation.trace_id,
            invocation.client_context,
        )
        await self._queue.accept([work])
        self._woken(invocation.function)


def _client_context(header: str | None) -> bytes:
    if header is None:
        return b""
    if len(header) > MAX_CONTEXT:
        raise InvalidParameter(f"X-Amz-Client-Context must be at most {MAX_CONTEXT} bytes, got {len(header)}")
    try:
        context = base64.b64decode(header, validate=True)
    except ValueError as error:  # binascii's, or a character beyond ASCII
        raise InvalidParameter(f"X-Amz-Client-Context must be base64: {error}") from error
    if not isinstance(parsed := strict_json.parsed(context), dict):
        raise InvalidRequestContent(f"X-Amz-Client-Context must be a JSON object, got {type(parsed).__name__}")
    return json.dumps(parsed).encode()
