"""Raw ASGI, as much as the data path needs: read a body with a bound, answer, answer an error as AWS does."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from okiba.core.errors import AccessDenied, OkibaError, RequestTooLarge, StoreUnavailable, Throttled

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
RETRY_AFTER_S: Final = 1


class ClientGone(Exception):
    """The caller hung up before his request was whole."""


async def read_body(receive: Receive, announced: str | None, limit: int) -> bytes:
    """The request's body.

    Args:
        announced: The Content-Length header, if there was one.
        limit: Most bytes that are accepted.

    Raises:
        RequestTooLarge: It is larger, or says so before it arrives.
        ClientGone: It never came whole.
    """
    # Checked before the body arrives: a liar must not make us wait for 4 GiB.
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise RequestTooLarge(int(announced), limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return _bounded(body, limit)
    chunks = [body]
    size = len(body)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise RequestTooLarge(size, limit)
        if not message.get("more_body"):
            return b"".join(chunks)


def _bounded(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise RequestTooLarge(len(body), limit)
    return body


async def answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Sends a whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def answer_error(send: Send, error: OkibaError, request_id: str = "") -> None:
    """Sends an error as AWS's JSON services shape it; 429 and 503 say when to come again."""
    status, headers, body = error_response(error, request_id or str(uuid.uuid4()))
    await answer(send, status, body, headers)


def error_response(error: OkibaError, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body that tell an error."""
    code = error.wire_code if isinstance(error, AccessDenied) else error.code
    content: dict[str, Any] = {"Type": "User" if error.status < 500 else "Service"}
    # botocore reads `message` of some of Lambda's errors and `Message` of others, as AWS sends them.
    content["Message" if code == "ResourceNotFoundException" else "message"] = str(error)
    headers: Headers = [JSON, (b"x-amzn-requestid", request_id.encode()), (b"x-amzn-errortype", code.encode())]
    if isinstance(error, Throttled):
        content |= {"Reason": error.reason, "retryAfterSeconds": str(RETRY_AFTER_S)}
    if isinstance(error, (Throttled, StoreUnavailable)) or error.status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    return error.status, headers, json.dumps(content).encode()
