"""What other gateways ask of this one, on the admin port: to run calls of its functions, to take functions, to let go.

The paths and their proof are those of `okiba.adapters.peer_http`. A call is answered as its caller is to be answered.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from okiba.adapters.peer_http import MISDIRECTED, PREFIX, peer_token
from okiba.apps.gateway.http import JSON, Call, Head, Reply, error_reply
from okiba.apps.gateway.loans import Loans
from okiba.apps.gateway.runs import Runs
from okiba.apps.gateway.server import Admission
from okiba.core.errors import AccessDenied, InvalidRequestContent, NotFound, NotOwner, OkibaError
from okiba.core.function import Function
from okiba.core.invocation import Invocation
from okiba.flow.catalogue import Catalogue
from okiba.flow.lend import LendingScaler
from okiba.flow.own import Ownership
from okiba.wire import MAX_BODY

_ADMITTED: Final = Admission(MAX_BODY)
_NAMES: Final = Admission(4 * 1024 * 1024)


class PeerApp:
    """The peers' part of the admin port.

    Args:
        states: What this gateway has, for status.
        wake: Told a function's name when its queue has got work.
    """

    def __init__(
        self,
        platform_key: str,
        ownership: Ownership,
        catalogue: Catalogue,
        scaler: LendingScaler,
        runs: Runs,
        loans: Loans,
        states: Callable[[], Mapping[str, Any]],
        wake: Callable[[str], object],
    ) -> None:
        self._expected = peer_token(platform_key, ownership.roll.me.name).encode()
        self._ownership = ownership
        self._catalogue = catalogue
        self._scaler = scaler
        self._runs = runs
        self._loans = loans
        self._states = states
        self._told: dict[str, Callable[[str], object]] = {
            "wake": wake,
            "offer": ownership.look_at,
            "recall": scaler.recalled,
            "returned": scaler.returned,
        }

    def admit(self, head: Head) -> Admission:
        """What the request may send; without the proof, nothing."""
        given = head.headers.get("okiba-peer", "").encode("latin-1")
        if head.method != "POST" or not hmac.compare_digest(given, self._expected):
            raise AccessDenied("other gateways prove themselves with the platform's key")
        return _ADMITTED if head.path.startswith(PREFIX + "invoke/") else _NAMES

    async def answer(self, call: Call) -> Reply:
        """The answer to another gateway."""
        what, _, rest = call.head.path[len(PREFIX) :].partition("/")
        body: bytes = call.body  # type: ignore[assignment]  # never spooled
        if what == "invoke":
            return await self._invoke(call.head, rest, body)
        if what == "released":
            await self._scaler.released(rest.partition("/")[2])
        elif what == "states":
            return Reply(200, [JSON], json.dumps(self._states()).encode())
        elif what == "borrowing":
            self._scaler.named(call.head.headers.get("okiba-from", ""), body.decode().split())
        elif what in self._told:
            for word in body.decode().split():
                self._told[what](word)
        else:
            raise NotFound(f"no such page for gateways: {what[:40]}")
        return Reply(200, [])

    async def _invoke(self, head: Head, name: str, body: bytes) -> Reply:
        accepted_s = time.time()
        headers = head.headers
        request_id, wait_ms = headers.get("lambda-runtime-aws-request-id", ""), headers.get("okiba-wait-ms", "")
        if not request_id or not wait_ms.isdigit():
            raise InvalidRequestContent("a forwarded call has a request id and says how long it may wait")
        try:
            function = await self._owned(name)
            invocation = Invocation(
                request_id,
                name,
                body,
                headers.get("lambda-runtime-invoked-function-arn", ""),
                False,
                headers.get("lambda-runtime-client-context", "").encode("latin-1"),
                headers.get("lambda-runtime-trace-id", ""),
            )
            tail = "okiba-log-tail" in headers
            reply = await self._runs.here(function, invocation, accepted_s, tail=tail, wait_ms=int(wait_ms))
        except NotOwner:
            return Reply(MISDIRECTED, [])
        except OkibaError as error:
            return error_reply(error, request_id)
        loan = self._loans.offer(name, headers.get("okiba-from", ""))
        if loan is not None:
            reply.headers.append(loan)
        return reply

    async def _owned(self, name: str) -> Function:
        """The function, if it is this gateway's; taken, where it could be.

        Raises:
            NotOwner: It is another's, or nobody here knows of it.
        """
        function = self._catalogue.invocable(name)
        if function is None:
            await self._catalogue.refresh(name)  # created a moment ago, at another gateway
            function = self._catalogue.invocable(name)
        if function is not None and name not in self._ownership.held:
            await self._ownership.whose(name)
        if function is None or name not in self._ownership.held:
            raise NotOwner(f"function {name} is not this gateway's")
        return function
