"""The other gateways, as this one talks to them: kept-alive HTTP to their peer ports; fulfils `flow.own.Peers`.

    POST /okiba/v1/peer/invoke/NAME     a call, answered as the caller is to be answered; 421: not mine, nothing ran
    POST /okiba/v1/peer/wake            names, one a line: their queues have got work
    POST /okiba/v1/peer/offer           names: they are free to be taken
    POST /okiba/v1/peer/released/NAME/SLOT   answered when no call is in that slot any more
    POST /okiba/v1/peer/recall          names: what is borrowed of them is wanted back
    POST /okiba/v1/peer/returned        slots, one a line: they are the lender's again
    POST /okiba/v1/peer/states          slots by function and state, and warm ones by kind, as JSON
    POST /okiba/v1/peer/borrowing       slots: what the sender has of the receiver, once a second

Every request carries `Okiba-Peer`, an HMAC of the receiver's name by the platform's key, and `Okiba-From`. An answer to
`invoke` may bring `Okiba-Loan`, a slot for further calls, as JSON {slot, epoch}.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterable
from typing import Any, Final

from okiba.adapters.slot_http import SlotConnection
from okiba.core.errors import PlatformError, SlotLost
from okiba.core.invocation import Invocation
from okiba.core.membership import Member
from okiba.wire import Answer

log = logging.getLogger(__name__)

PREFIX: Final = "/okiba/v1/peer/"
CONNECT_S: Final = 1.0
TELL_S: Final = 2.0
IDLE_S: Final = 30.0
"""A connection that nobody has used for so long is not used again: the other end closes quiet ones after 75 s."""
MISDIRECTED: Final = 421


class NotReached(PlatformError):
    """The gateway does not answer, and has not got the call."""


def peer_token(platform_key: str, gateway: str) -> str:
    """What one gateway proves with to another that it belongs to this installation."""
    return hmac.new(bytes.fromhex(platform_key), f"peer:{gateway}".encode(), "sha256").hexdigest()


class PeerLink:
    """Connections to the other gateways.

    Args:
        me: This gateway's name.
    """

    def __init__(self, me: str, platform_key: str) -> None:
        self._me = me
        self._platform_key = platform_key
        self._peers: dict[str, _Peer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- flow.own.Peers ----------------------------------------------------------------------------------------------

    def know(self, members: Iterable[Member]) -> None:
        """These are the ones who live; connections to others are closed, and what waits on them fails."""
        living = {member.name: member for member in members if member.name != self._me}
        for name, peer in list(self._peers.items()):
            if name not in living or living[name].life != peer.member.life:
                self._peers.pop(name).close()
        for name, member in living.items():
            if name not in self._peers:
                self._peers[name] = _Peer(member, peer_token(self._platform_key, name), self._me)

    def wake(self, gateway: str, function: str) -> None:
        """The function's queue has got work; told at once, or with the next ones while that takes time."""
        self._tell(gateway, "wake", function)

    def offer(self, gateway: str, function: str) -> None:
        """The function is free for that gateway to take."""
        self._tell(gateway, "offer", function)

    def recall(self, gateway: str, function: str) -> None:
        """What that gateway has borrowed of the function is wanted back."""
        self._tell(gateway, "recall", function)

    def returned(self, gateway: str, slot_id: str) -> None:
        """A borrowed slot is its lender's again."""
        self._tell(gateway, "returned", slot_id)

    def borrowing(self, gateway: str, slots: Iterable[str]) -> None:
        """What this gateway has of that one's."""
        for slot_id in slots:
            self._tell(gateway, "borrowing", slot_id)

    async def released(self, gateway: str, function: str, slot_id: str, timeout_s: float) -> None:
        """Returns when a former owner has let go of a slot that it handed over busy, or can not be asked."""
        try:
            peer = self._peer(gateway)
            await peer.ask(peer.request(f"released/{function}/{slot_id}"), timeout_s)
        except (PlatformError, TimeoutError) as error:
            log.warning("a former owner cannot be asked", extra={"gateway": gateway, "reason": str(error)})

    # --- calls ------------------------------------------------------------------------------------------------------

    async def invoke(
        self, gateway: str, invocation: Invocation, wait_ms: int, timeout_s: float, *, tail: bool
    ) -> Answer:
        """What the gateway answers to a call of one of its functions.

        Args:
            wait_ms: How long the call may wait for a slot there.
            timeout_s: When the answer is given up.
            tail: Whether the end of its log is asked for.

        Raises:
            NotReached: It did not run.
            SlotLost: The gateway, or the way to it, was lost while the call may have run.
        """
        peer = self._peer(gateway)
        try:
            return await peer.ask(_call(peer, invocation, wait_ms, tail=tail), timeout_s)
        except TimeoutError as error:
            raise SlotLost(f"gateway {gateway} did not answer within {timeout_s:g} s") from error

    async def states(self) -> dict[str, dict[str, Any]]:
        """What each of the others has, of those that answer within a moment."""
        answers = await asyncio.gather(*(_state(peer) for peer in self._peers.values()))
        return {name: told for name, told in zip(self._peers, answers, strict=False) if told}

    # --- inside -----------------------------------------------------------------------------------------------------

    def _peer(self, gateway: str) -> _Peer:
        peer = self._peers.get(gateway)
        if peer is None:
            raise NotReached(f"gateway {gateway} is not known to live")
        return peer

    def _tell(self, gateway: str, what: str, word: str) -> None:
        peer = self._peers.get(gateway)
        if peer is not None and peer.note(what, word):
            task = asyncio.get_running_loop().create_task(peer.tell(what))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Ends all connections."""
        self.know([])
        for task in self._tasks:
            task.cancel()


class _Peer:
    """One other gateway."""

    def __init__(self, member: Member, token: str, sender: str) -> None:
        self.member = member
        self.head = b"Host: peer\r\nOkiba-Peer: %b\r\nOkiba-From: %b\r\n" % (token.encode(), sender.encode())
        self._idle: list[tuple[SlotConnection, float]] = []
        self._busy: set[SlotConnection] = set()
        self._notes: dict[str, dict[str, None]] = {}
        self._telling: set[str] = set()
        self._now_s = asyncio.get_running_loop().time

    def request(self, path: str, body: bytes = b"") -> bytes:
        return b"POST %b%b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
            PREFIX.encode(),
            path.encode(),
            self.head,
            len(body),
            body,
        )

    async def ask(self, request: bytes, timeout_s: float) -> Answer:
        connection = self._quiet() or await self._connected()
        self._busy.add(connection)
        try:
            answer = await connection.ask(request, timeout_s)
        finally:
            self._busy.discard(connection)
        if answer.headers.get(b"connection") == b"close":
            connection.close()
        else:
            self._idle.append((connection, self._now_s()))
        return answer

    def _quiet(self) -> SlotConnection | None:
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.closed and self._now_s() - since < IDLE_S:
                return connection
            connection.close()
        return None

    async def _connected(self) -> SlotConnection:
        host, _, port = self.member.address.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_S):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(SlotConnection, host.strip("[]"), int(port))
        except (OSError, TimeoutError, ValueError) as error:
            raise NotReached(f"gateway {self.member.name} does not answer at {self.member.address}: {error}") from error
        return connection

    def note(self, what: str, word: str) -> bool:
        """Keeps it to be told; True when somebody has to tell."""
        self._notes.setdefault(what, {})[word] = None
        begins = what not in self._telling
        self._telling.add(what)
        return begins

    async def tell(self, what: str) -> None:
        try:
            while words := self._notes.pop(what, None):
                await self.ask(self.request(what, "\n".join(words).encode()), TELL_S)
        except (PlatformError, TimeoutError) as error:  # whoever was to be told will see for himself
            log.info("a gateway was not told", extra={"gateway": self.member.name, "what": what, "reason": str(error)})
        finally:
            self._telling.discard(what)

    def close(self) -> None:
        for connection in [*self._busy, *(quiet for quiet, _ in self._idle)]:
            connection.close()
        self._idle.clear()


async def _state(peer: _Peer) -> dict[str, Any]:
    try:
        answer = await peer.ask(peer.request("states"), TELL_S)
        told = answer.json() if answer.status == 200 else {}
    except (PlatformError, TimeoutError):
        return {}
    return told if isinstance(told, dict) else {}


def _call(peer: _Peer, invocation: Invocation, wait_ms: int, *, tail: bool) -> bytes:
    extra = b"Okiba-Log-Tail: 1\r\n" if tail else b""
    if invocation.trace_id:
        extra += b"Lambda-Runtime-Trace-Id: %b\r\n" % _one_line(invocation.trace_id.encode())
    if invocation.client_context:
        extra += b"Lambda-Runtime-Client-Context: %b\r\n" % _one_line(invocation.client_context)
    return (
        b"POST /okiba/v1/peer/invoke/%b HTTP/1.1\r\n%b"
        b"Lambda-Runtime-Aws-Request-Id: %b\r\n"
        b"Lambda-Runtime-Invoked-Function-Arn: %b\r\n"
        b"Okiba-Wait-Ms: %d\r\n"
        b"%b"
        b"Content-Length: %d\r\n\r\n%b"
    ) % (
        invocation.function.encode(),
        peer.head,
        invocation.request_id.encode(),
        invocation.invoked_arn.encode(),
        wait_ms,
        extra,
        len(invocation.payload),
        invocation.payload,
    )


def _one_line(value: bytes) -> bytes:
    # What came in as a header cannot hold a line end; this is the wall behind that.
    return value.replace(b"\r", b"").replace(b"\n", b"")
