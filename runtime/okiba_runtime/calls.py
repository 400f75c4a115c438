"""The agent's side of the control calls: who may ask for what, and the answers."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING

from okiba_runtime import slot as slots
from okiba_runtime import wire
from okiba_runtime.order import BadOrder, Unsupported, parse_order
from okiba_runtime.peers import Peer, Request, error_response
from okiba_runtime.telemetry import BadQuery

if TYPE_CHECKING:
    from okiba_runtime.agent import Agent


class Refused(Exception):
    """The call is answered with this error.

    Args:
        more: Further fields of the error JSON.
    """

    def __init__(self, status: int, kind: str, message: str, **more: int) -> None:
        super().__init__(message)
        self.response = error_response(status, kind, message, **more)


class Calls:
    """Carries out requests on one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._calls = {
            ("POST", "/okiba/v1/specialize"): self._specialize,
            ("POST", "/okiba/v1/connect"): self._connect,
            ("GET", "/okiba/v1/telemetry"): self._telemetry,
            ("POST", "/okiba/v1/shutdown"): self._shutdown,
        }

    def on_request(self, peer: Peer, request: Request) -> None:
        """Answers the request, now or later."""
        try:
            self._check_grant(request)
            self._calls.get((request.method, request.path), self._unknown)(peer, request)
        except Refused as refusal:
            peer.answer(refusal.response)
        except Exception as error:
            peer.answer(error_response(500, "Okiba.AgentFailed", f"{type(error).__name__}: {error}"))
            raise

    def _check_grant(self, request: Request) -> None:
        order = self._agent.slot.order
        given = request.headers.get(b"okiba-grant", b"")
        if order and not hmac.compare_digest(given, order.grant.encode()):
            raise Refused(403, "Okiba.WrongGrant", "Okiba-Grant is not this slot's")

    def _unknown(self, peer: Peer, request: Request) -> None:
        del peer
        raise Refused(404, "Okiba.UnknownCall", f"{request.method} {request.path}")

    def _specialize(self, peer: Peer, request: Request) -> None:
        if self._agent.slot.state != slots.WARM:
            raise Refused(409, "Okiba.AlreadySpecialized", "a slot belongs to one function for life")
        try:
            order = parse_order(request.body)
            order.check_folders()
        except Unsupported as error:
            raise Refused(400, "Okiba.Unsupported", str(error)) from error
        except BadOrder as error:
            raise Refused(400, "Okiba.BadRequest", str(error)) from error
        self._agent.specialize(order, request.body, lambda pid: peer.answer(_forked(pid)))

    def _connect(self, peer: Peer, request: Request) -> None:
        slot = self._agent.slot
        if slot.order is None:
            raise Refused(409, "Okiba.NotSpecialized", "the slot has no function yet")
        raw = request.header(b"okiba-epoch")
        if not raw.isdigit():
            raise Refused(400, "Okiba.BadRequest", f"Okiba-Epoch must be a whole number, got {raw[:40]!r}")
        if int(raw) < slot.epoch:
            message = f"epoch {raw} is over; {slot.epoch} holds"
            stale = error_response(409, "Okiba.StaleEpoch", message, epoch=slot.epoch)
            peer.answer(stale, last=True)
            return
        if slot.state == slots.EXITED:
            peer.answer(_exited())
            return
        if peer.pending_input:
            raise Refused(400, "Okiba.BadRequest", "bytes behind the request; the greeting was not awaited")
        slot.epoch = int(raw)
        self._agent.connect(peer.detach())

    def _telemetry(self, peer: Peer, request: Request) -> None:
        self._agent.watch.look()
        try:
            self._agent.telemetry.ask(peer, request)
        except BadQuery as error:
            raise Refused(400, "Okiba.BadRequest", str(error)) from error

    def _shutdown(self, peer: Peer, request: Request) -> None:
        del request
        self._agent.shut_down(lambda: peer.answer(_json_response({}), last=True))


def _forked(pid: int) -> bytes:
    return _json_response({"pid": pid}) if pid else _exited()


def _exited() -> bytes:
    return error_response(410, "Okiba.Exited", "the worker has ended; telemetry tells how")


def _json_response(fields: dict[str, int]) -> bytes:
    return wire.response(200, [("Content-Type", "application/json")], json.dumps(fields).encode())
