"""The agent's HTTP connections: bytes in, whole requests out, answers back; nothing here blocks.

A request waits in its peer until the agent answers it, at once or later (telemetry's long poll). A peer whose socket
the agent takes away (`connect`) is no connection of this module's any more.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass

from okiba_runtime import listening, wire

# `specialize` has the largest body.
MAX_BODY = 1024 * 1024

# What a peer may send before its last request has been answered.
_MAX_AHEAD = MAX_BODY + 2 * wire.MAX_HEAD

# More than a gateway, a supervisor and an operator need; a bound against a peer that forgets its connections.
MAX_PEERS = 64


@dataclass(slots=True)
class Request:
    """A whole request, not answered yet."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[bytes, bytes]
    body: bytes

    def header(self, name: bytes) -> str:
        """A header's text; empty if it is absent."""
        return self.headers.get(name, b"").decode("latin-1")


class Peer:
    """One connection: reads requests, one at a time, and writes answers."""

    def __init__(self, server: Peers, connection: socket.socket) -> None:
        self._server = server
        self.socket = connection
        self._received = bytearray()
        self._unsent = b""
        self._ends = False
        self.awaits_answer = False

    @property
    def pending_input(self) -> bool:
        """Whether bytes came that belong to no request yet."""
        return bool(self._received)

    def on_ready(self, events: int) -> None:
        """The socket can be read or written."""
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ:
            self._read()

    def _read(self) -> None:
        try:
            piece = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece or len(self._received) > _MAX_AHEAD:
            self.close()
            return
        self._received += piece
        if not self.awaits_answer:
            self._next_request()

    def _next_request(self) -> None:
        try:
            request = self._take_request()
        except wire.Malformed as error:
            self._ends = True
            self.awaits_answer = True
            self.answer(error_response(400, "Okiba.BadRequest", str(error)))
            return
        if request:
            self.awaits_answer = True
            self._server.on_request(self, request)

    def _take_request(self) -> Request | None:
        end = self._received.find(wire.END_OF_HEAD)
        if end < 0:
            if len(self._received) >= wire.MAX_HEAD:
                raise wire.head_too_long()
            return None
        method, target, headers = wire.parse_head(bytes(self._received[:end]))
        length = wire.body_length(headers, MAX_BODY)
        start = end + len(wire.END_OF_HEAD)
        if len(self._received) < start + length:
            return None
        body = bytes(self._received[start : start + length])
        del self._received[: start + length]
        path, query = wire.split_target(target)
        return Request(method.decode("latin-1"), path, query, headers, body)

    def answer(self, response: bytes, *, last: bool = False) -> None:
        """Sends the response to the request that waits; with `last`, the connection is closed after it."""
        if not self.awaits_answer:
            return
        self.awaits_answer = False
        self._ends = self._ends or last
        self._unsent += response
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self.socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._server.watch(self, selectors.EVENT_READ | selectors.EVENT_WRITE)
        elif self._ends:
            self.close()
        else:
            self._server.watch(self, selectors.EVENT_READ)
            if self._received and not self.awaits_answer:
                self._next_request()

    def detach(self) -> socket.socket:
        """Takes the socket away from here."""
        self.awaits_answer = False
        self._server.forget(self)
        return self.socket

    def close(self) -> None:
        """Ends the connection."""
        self.awaits_answer = False
        self._server.forget(self)
        self.socket.close()


class Peers:
    """All connections of an agent, and the socket on which they arrive."""

    def __init__(self, selector: selectors.BaseSelector, on_request: Callable[[Peer, Request], None]) -> None:
        self._selector = selector
        self.on_request = on_request
        self._peers: dict[Peer, int] = {}
        self._listener: socket.socket | None = None

    def listen(self, listener: socket.socket) -> None:
        """Accepts connections from now on."""
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, lambda _events: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # gone before it was accepted, or no descriptors left
            return
        if len(self._peers) >= MAX_PEERS:
            connection.close()
            return
        listening.tune(connection)
        peer = Peer(self, connection)
        self._peers[peer] = selectors.EVENT_READ
        self._selector.register(connection, selectors.EVENT_READ, peer.on_ready)

    def watch(self, peer: Peer, events: int) -> None:
        """Wakes the peer up for these events."""
        if self._peers.get(peer, events) != events:
            self._peers[peer] = events
            self._selector.modify(peer.socket, events, peer.on_ready)

    def forget(self, peer: Peer) -> None:
        """The peer is no connection of ours any more."""
        if self._peers.pop(peer, None) is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(peer.socket)

    def close(self) -> None:
        """Ends every connection, and listens no longer."""
        for peer in list(self._peers):
            peer.close()
        if self._listener:
            self._listener.close()


def error_response(status: int, kind: str, message: str, **more: int) -> bytes:
    """An error as the protocol tells it."""
    fields = {"errorType": kind, "errorMessage": message, **more}
    return wire.response(status, [("Content-Type", "application/json")], json.dumps(fields).encode())
