"""One synchronous call becomes its answer, here or at the gateway that owns the function."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Container
from typing import Final, Protocol

from okiba.adapters.peer_http import MISDIRECTED, NotReached, PeerLink
from okiba.apps.gateway.http import JSON, Headers, Reply
from okiba.apps.gateway.loans import HEADER, Loans
from okiba.core.errors import InvalidRequestContent, NoSlot, NotOwner, SlotLost, StoreUnavailable, Throttled
from okiba.core.function import LATEST, Function
from okiba.core.invocation import Ending, Invocation
from okiba.flow.dispatch import Dispatcher
from okiba.flow.own import Ownership
from okiba.flow.slots import STARTING_S
from okiba.wire import Answer

BAD_JSON: Final = "Runtime.UnmarshalError"

FIRST_PAUSE_S: Final = 0.01
LAST_PAUSE_S: Final = 0.2
"""Pauses between tries to find a function's owner, while it changes hands, double from the first to the last."""

MARGIN_S: Final = 2.0 + STARTING_S
"""How much longer than the call itself, and its waiting for a slot, its answer may take."""

_VERSION: Final = (b"x-amz-executed-version", LATEST.encode())
_RELAYED: Final = (
    *(b"content-type", b"x-amzn-requestid", b"x-amz-executed-version", b"x-amz-function-error", b"x-amz-log-result"),
    *(b"x-amzn-errortype", b"retry-after"),
)


class Refused(Protocol):
    """Told a function's name when a call is refused for its concurrency."""

    def __call__(self, name: str) -> object:
        """Counts it."""
        ...


class LogTails(Protocol):
    """Where the end of an invocation's log comes from."""

    async def tail(self, slot: str, request_id: str) -> bytes:
        """At most the last 4 KB that the invocation wrote, platform's lines included."""
        ...


class Runs:
    """Calls of functions that this gateway owns."""

    def __init__(self, dispatcher: Dispatcher, tails: LogTails, refused: Refused) -> None:
        self._dispatcher = dispatcher
        self._tails = tails
        self._refused = refused

    async def here(
        self, function: Function, invocation: Invocation, accepted_s: float, *, tail: bool, wait_ms: int = 0
    ) -> Reply:
        """What the caller is told.

        Raises:
            NotOwner: It did not run here, and never will.
            OkibaError: What else came of it; the caller is told that.
        """
        try:
            outcome = await self._dispatcher.call(function, invocation, accepted_s, "sync", wait_ms)
        except Throttled:
            self._refused(function.name)
            raise
        if outcome.ending is Ending.PLATFORM_FAILURE:
            raise SlotLost(f"RequestId: {invocation.request_id} Error: {outcome.payload.decode(errors='replace')}")
        if outcome.error_type == BAD_JSON:
            raise InvalidRequestContent("Could not parse request body into json")
        answered: Headers = [JSON, (b"x-amzn-requestid", invocation.request_id.encode()), _VERSION]
        if outcome.ending is Ending.FUNCTION_ERROR:
            answered.append((b"x-amz-function-error", b"Unhandled"))
        if tail:
            log = await self._tails.tail(outcome.slot, invocation.request_id)
            answered.append((b"x-amz-log-result", base64.b64encode(log)))
        return Reply(200, answered, outcome.payload)


class Elsewhere:
    """Calls of functions that other gateways own.

    Args:
        borrowed: Functions of which this gateway has slots that their owners lent it.
        wait_ms: How long a call may wait for a slot, and for its function to have an owner.
    """

    def __init__(
        self,
        ownership: Ownership,
        peers: PeerLink,
        runs: Runs,
        borrowed: Container[str],
        loans: Loans,
        wait_ms: int,
    ) -> None:
        self._ownership = ownership
        self._peers = peers
        self._runs = runs
        self._borrowed = borrowed
        self._loans = loans
        self._wait_ms = wait_ms

    async def call(self, function: Function, invocation: Invocation, accepted_s: float, *, tail: bool) -> Reply:
        """What the caller is told by the owner, whoever that is by then.

        Raises:
            NoSlot: No gateway took the call in time; it did not run.
            SlotLost: The owner was lost while it may have run.
        """
        if function.name in self._borrowed:
            with contextlib.suppress(NotOwner):
                return await self._runs.here(function, invocation, accepted_s, tail=tail)
        until_s, pause_s = time.monotonic() + self._wait_ms / 1000, FIRST_PAUSE_S
        while (left_ms := int((until_s - time.monotonic()) * 1000)) > 0:
            reply = await self._try(function, invocation, accepted_s, left_ms, tail=tail)
            if reply is not None:
                return reply
            self._ownership.mistaken(function.name)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
        raise NoSlot(f"no gateway took a call of {function.name} within {self._wait_ms} ms")

    async def _try(
        self, function: Function, invocation: Invocation, accepted_s: float, wait_ms: int, *, tail: bool
    ) -> Reply | None:
        """The answer; None when the gateway that was asked does not own the function, or is not there."""
        try:
            gateway = await self._ownership.whose(function.name)
            if gateway == self._ownership.roll.me.name:
                return await self._runs.here(function, invocation, accepted_s, tail=tail, wait_ms=wait_ms)
            timeout_s = function.timeout_s + wait_ms / 1000 + MARGIN_S
            answer = await self._peers.invoke(gateway, invocation, wait_ms, timeout_s, tail=tail)
        except (NotOwner, NotReached, StoreUnavailable):
            return None
        if answer.status == MISDIRECTED:
            return None
        if HEADER in answer.headers:
            self._loans.accept(function, gateway, answer.headers[HEADER])
        return _relayed(answer)


def _relayed(answer: Answer) -> Reply:
    headers = answer.headers
    return Reply(answer.status, [(name, headers[name]) for name in _RELAYED if name in headers], answer.body)
