"""What a request and an answer are inside the gateway, and how an error is told: as AWS's JSON services do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Final
from urllib.parse import unquote

from okiba.core.errors import OkibaError, Throttled
from okiba.core.sigv4 import Claim

Headers = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
RETRY_AFTER_S: Final = 1


class Head:
    """A request's line and headers.

    Args:
        target: The request target as it stood on the line.
        headers: By lower-case name; what came several times is joined by a comma.

    Attributes:
        claim: Who it says it is from, as found when it was admitted.
        invokes: Whether it calls a function, as found then.
    """

    __slots__ = ("claim", "headers", "invokes", "method", "path", "query", "raw_path")

    def __init__(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        self.method = method
        self.headers = headers
        self.claim: Claim | None = None
        self.invokes = False
        self.raw_path, _, self.query = target.partition("?")
        self.path = unquote(self.raw_path) if "%" in self.raw_path else self.raw_path


class Call:
    """A whole request.

    Args:
        body: In memory, or a file at its start when the application asked for one.
    """

    __slots__ = ("body", "head")

    def __init__(self, head: Head, body: bytes | IO[bytes]) -> None:
        self.head = head
        self.body = body


@dataclass(slots=True)
class Reply:
    """A whole answer; its length is added when it is sent."""

    status: int
    headers: Headers
    body: bytes = b""


def error_reply(error: OkibaError, request_id: str) -> Reply:
    """The answer that tells an error; 429 and 503 say when to come again."""
    status, headers, body = error_response(error, request_id)
    return Reply(status, headers, body)


def error_response(error: OkibaError, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body that tell an error."""
    content: dict[str, Any] = {"Type": "User" if error.status < 500 else "Service"}
    # botocore reads `message` of some of Lambda's errors and `Message` of others, as AWS sends them.
    content["Message" if error.code == "ResourceNotFoundException" else "message"] = str(error)
    headers: Headers = [JSON, (b"x-amzn-requestid", request_id.encode()), (b"x-amzn-errortype", error.code.encode())]
    if isinstance(error, Throttled):
        content |= {"Reason": error.reason, "retryAfterSeconds": str(RETRY_AFTER_S)}
    if error.status in {429, 503}:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    return error.status, headers, json.dumps(content).encode()
