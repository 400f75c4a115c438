"""The agent's side of the control calls: who may ask for what, and the answers."""

from __future__ import annotations

import contextlib
import hmac
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from okiba_runtime import slot as slots
from okiba_runtime import wire
from okiba_runtime.fetching import Error
from okiba_runtime.order import BadOrder, order_of, parse_json
from okiba_runtime.parts import located
from okiba_runtime.peers import Peer, Request, error_response
from okiba_runtime.preloading import Result, wish_of
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
            ("POST", "/okiba/v1/preload"): self._preload,
            ("POST", "/okiba/v1/specialize"): self._specialize,
            ("POST", "/okiba/v1/connect"): self._connect,
            ("GET", "/okiba/v1/telemetry"): self._telemetry,
            ("POST", "/okiba/v1/shutdown"): self._shutdown,
        }

    def on_request(self, peer: Peer, request: Request) -> None:
        """Answers the request, now or later."""
        with _answering(peer):
            self._check_grant(request)
            self._calls.get((request.method, request.path), self._unknown)(peer, request)

    def _check_grant(self, request: Request) -> None:
        order = self._agent.slot.order or self._agent.slot.promised
        given = request.headers.get(b"okiba-grant", b"")
        if order and not hmac.compare_digest(given, order.grant.encode()):
            raise Refused(403, "Okiba.WrongGrant", "Okiba-Grant is not this slot's")

    def _unknown(self, peer: Peer, request: Request) -> None:
        del peer
        raise Refused(404, "Okiba.UnknownCall", f"{request.method} {request.path}")

    def _preload(self, peer: Peer, request: Request) -> None:
        self._check_warm()
        wish = wish_of(located(parse_json(request.body), self._agent.runtime_dir))
        if not self._agent.preload(wish, lambda result: peer.answer(_preloaded(result))):
            raise Refused(409, "Okiba.Preloading", "another preload has not come to its end")

    def _specialize(self, peer: Peer, request: Request) -> None:
        self._check_warm()
        told = located(parse_json(request.body), self._agent.runtime_dir)
        order = order_of(told.fields)
        order.check_folders(besides={part.folder for part in told.parts})
        if told.parts:
            body = json.dumps(told.order_with_parts()).encode()
            self._agent.promise(order, body, lambda error: self._fetched(peer, error))
        else:
            self._agent.specialize(order, request.body, lambda pid: peer.answer(_forked(pid)))

    def _fetched(self, peer: Peer, error: Error) -> None:
        if self._agent.slot.order is None:
            peer.answer(_unfetched(error))
        else:
            self._agent.tell_worker(lambda pid: peer.answer(_forked(pid)))

    def _check_warm(self) -> None:
        slot = self._agent.slot
        if self._agent.is_ending and slot.order is None:
            raise Refused(410, "Okiba.Exited", "the worker has ended; telemetry tells how")
        if slot.state != slots.WARM:
            raise Refused(409, "Okiba.AlreadySpecialized", "a slot belongs to one function for life")

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


@contextlib.contextmanager
def _answering(peer: Peer) -> Iterator[None]:
    """Whatever goes wrong meanwhile is the request's answer."""
    try:
        yield
    except Refused as refusal:
        peer.answer(refusal.response)
    except BadOrder as error:
        peer.answer(error_response(400, "Okiba.BadRequest", str(error)))
    except Exception as error:
        peer.answer(error_response(500, "Okiba.AgentFailed", f"{type(error).__name__}: {error}"))
        raise


def _preloaded(result: Result | Error) -> bytes:
    if isinstance(result, Result):
        return _json_response({"preloaded": result.modules, "dropped": result.dropped})
    return _unfetched(result)


def _unfetched(error: Error) -> bytes:
    """A package that is refused will be refused again; everything else about fetching may pass."""
    kind = error.get("errorType", "")
    return error_response(400 if kind == "Okiba.BadPackage" else 503, kind, error.get("errorMessage", ""))


def _forked(pid: int) -> bytes:
    return _json_response({"pid": pid}) if pid else _exited()


def _exited() -> bytes:
    return error_response(410, "Okiba.Exited", "the worker has ended; telemetry tells how")


def _json_response(fields: dict[str, Any]) -> bytes:
    return wire.response(200, [("Content-Type", "application/json")], json.dumps(fields).encode())
