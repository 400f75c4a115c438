"""The bridge to the control plane, which is an ASGI application: a whole request in, a whole answer out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final

from okiba.apps.gateway.http import Call, Headers, Reply
from okiba.ports import Principal

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_PIECE: Final = 64 * 1024


async def answered(app: App, call: Call, principal: Principal) -> Reply:
    """What the application answers; it finds the caller in `scope["okiba.principal"]`."""
    head = call.head
    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": head.method,
        "scheme": "http",
        "path": head.path,
        "raw_path": head.raw_path.encode("latin-1"),
        "query_string": head.query.encode("latin-1"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.headers.items()],
        "okiba.principal": principal,
    }
    pieces = _pieces(call)
    status, headers, body = 500, Headers(), bytearray()

    async def receive() -> Message:
        piece = next(pieces, None)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [pair for pair in message["headers"] if pair[0] != b"content-length"]
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, send)
    return Reply(status, headers, bytes(body))


def _pieces(call: Call) -> Iterator[bytes]:
    """The body in pieces; an empty one ends it."""
    if isinstance(call.body, bytes):
        if call.body:
            yield call.body
    else:
        while piece := call.body.read(_PIECE):
            yield piece
    yield b""
