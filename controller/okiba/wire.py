"""The slot protocol as bytes, the gateway's side: requests out, answers in. No socket in sight.

The contract is `runtime/PROTOCOL.md`; the worker's side is the runtime's own. What comes back was written by a
process that a user's handler lives in, so every length is bounded and everything odd is a `ProtocolError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from okiba.core.errors import PlatformError
from okiba.core.invocation import Invocation

LEAVING: Final = 503
"""The status of a worker that was told to leave, and only hands over what it keeps: the invocation did not begin."""
MAX_HEAD: Final = 16 * 1024
MAX_RESULT: Final = 6_291_556
"""Lambda's limit for a synchronous response, in bytes."""
MAX_BODY: Final = MAX_RESULT + 64 * 1024
"""A little more than a result may have, for error JSON and log pages."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_header_lines: Final = re.compile(rb"\r\n([^:\r\n]+):[ \t]*([^\r\n]*)").findall


class ProtocolError(PlatformError):
    """A slot said something that the protocol does not allow; it is not spoken to again."""

    status = 502


class Answer(NamedTuple):
    """One HTTP answer of an agent or a worker.

    Args:
        headers: Names in lower case.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    def text(self, name: bytes) -> str:
        """A header's value, or the empty string."""
        return self.headers.get(name, b"").decode("latin-1")

    def number(self, name: bytes) -> int:
        """A header's decimal value, 0 when absent.

        Raises:
            ProtocolError: It is not a number of at most 18 digits.
        """
        value = self.headers.get(name, b"0")
        if not value.isdigit() or len(value) > 18:
            raise ProtocolError(f"header {name.decode('latin-1')} should be a number, got {value[:40]!r}")
        return int(value)

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ProtocolError: It is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"body should be JSON, got {self.body[:80]!r}") from error


class AnswerReader:
    r"""Turns the bytes of one connection into answers, one at a time.

        feed(b"HTTP/1.1 200 OK\r\nConte") → None
        feed(b"nt-Length: 2\r\n\r\n{}")      → Answer(200, …, b"{}")

    Bytes behind a whole answer are an error: nobody asked for them.
    """

    __slots__ = ("_buffer", "_head", "_limit")

    def __init__(self, limit: int = MAX_BODY) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._head: _AnswerHead | None = None  # of an answer that is not whole yet

    def feed(self, data: bytes) -> Answer | None:
        """The answer that `data` completes, if it does.

        Raises:
            ProtocolError: These bytes are no answer, or a larger one than allowed.
        """
        # Nearly every answer arrives whole, and then nothing is copied or kept.
        buffer: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            buffer = self._buffer
        head = self._head or _answer_head(buffer, self._limit)
        if head is None or len(buffer) < head.total:
            self._head = head
            if buffer is data:
                self._buffer += data
            return None
        if len(buffer) > head.total:
            raise ProtocolError(f"{len(buffer) - head.total} bytes behind the end of an answer")
        answer = Answer(head.status, head.headers, bytes(buffer[head.size :]))
        if buffer is not data:
            self._head, self._buffer = None, bytearray()
        return answer


class _AnswerHead(NamedTuple):
    """What stands before an answer's body: `size` bytes of `total`."""

    status: int
    headers: Mapping[bytes, bytes]
    size: int
    total: int


def _answer_head(buffer: bytes | bytearray, limit: int) -> _AnswerHead | None:
    """The head of an answer; None when its end is not there yet."""
    end = buffer.find(_END_OF_HEAD, 0, MAX_HEAD)
    if end < 0:
        if len(buffer) >= MAX_HEAD:
            raise ProtocolError(f"a header block must be smaller than {MAX_HEAD} bytes")
        return None
    head = bytes(buffer[:end])
    if not head.startswith(b"HTTP/1.1 ") or not head[9:12].isdigit():
        raise ProtocolError(f"an answer should start with HTTP/1.1 and a status, got {head[:40]!r}")
    lines = _header_lines(head)
    if len(lines) != head.count(b"\n"):
        raise ProtocolError(f"header lines should be 'Name: value', got {head[:200]!r}")
    headers = {name.lower(): value for name, value in lines}
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 10 or int(length) > limit:
        raise ProtocolError(f"Content-Length should be a number up to {limit}, got {length[:40]!r}")
    return _AnswerHead(int(head[9:12]), headers, end + 4, end + 4 + int(length))


def invocation_request(invocation: Invocation, timeout_ms: int, now_ms: int) -> bytes:
    """The bytes that start an invocation in a worker."""
    payload = invocation.payload
    extra = b""
    if invocation.trace_id:
        extra += b"Lambda-Runtime-Trace-Id: %b\r\n" % _header_value(invocation.trace_id)
    if invocation.client_context:
        extra += b"Lambda-Runtime-Client-Context: %b\r\n" % _header_value(invocation.client_context.decode())
    if invocation.asynchronous:
        extra += b"Okiba-Keep: %d\r\n" % invocation.attempt
    return (
        b"POST /2015-03-31/functions/function/invocations HTTP/1.1\r\n"
        b"Host: slot\r\n"
        b"Lambda-Runtime-Aws-Request-Id: %b\r\n"
        b"Lambda-Runtime-Deadline-Ms: %d\r\n"
        b"Lambda-Runtime-Invoked-Function-Arn: %b\r\n"
        b"Okiba-Timeout-Us: %d\r\n"
        b"%b"
        b"Content-Length: %d\r\n\r\n%b"
    ) % (
        invocation.request_id.encode(),
        now_ms + timeout_ms,
        invocation.invoked_arn.encode(),
        timeout_ms * 1000,
        extra,
        len(payload),
        payload,
    )


def specialize_request(specialization: Mapping[str, Any]) -> bytes:
    """The bytes that turn a warm slot into a function's; the shape is PROTOCOL.md's."""
    body = json.dumps(specialization).encode()
    return b"POST /okiba/v1/specialize HTTP/1.1\r\nHost: slot\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def preload_request(wish: Mapping[str, Any]) -> bytes:
    """The bytes that have a warm slot fetch layers and import modules ahead; the shape is PROTOCOL.md's."""
    body = json.dumps(wish).encode()
    return b"POST /okiba/v1/preload HTTP/1.1\r\nHost: slot\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def connect_request(epoch: int, grant: str) -> bytes:
    """The bytes that ask for the data connection."""
    head = b"POST /okiba/v1/connect HTTP/1.1\r\nHost: slot\r\n"
    return b"%bOkiba-Epoch: %d\r\nOkiba-Grant: %b\r\nContent-Length: 0\r\n\r\n" % (head, epoch, grant.encode())


def telemetry_request(grant: str, log_offset: int, wait_ms: int) -> bytes:
    """The bytes of one long poll."""
    return _get(f"/okiba/v1/telemetry?log={log_offset}&wait_ms={wait_ms}", grant)


def outcome_request(kept: str) -> bytes:
    """The bytes that collect a kept outcome, named as the greeting names it, on the data connection."""
    return _get(f"/okiba/v1/outcomes/{kept}", "")


def shutdown_request(grant: str) -> bytes:
    """The bytes that end a slot."""
    return (
        b"POST /okiba/v1/shutdown HTTP/1.1\r\nHost: slot\r\nOkiba-Grant: %b\r\nContent-Length: 0\r\n\r\n"
        % grant.encode()
    )


def _get(target: str, grant: str) -> bytes:
    credentials = f"Okiba-Grant: {grant}\r\n" if grant else ""
    return f"GET {target} HTTP/1.1\r\nHost: slot\r\n{credentials}Content-Length: 0\r\n\r\n".encode()


def _header_value(text: str) -> bytes:
    # What came in as a header cannot hold a line end; this is the wall behind that.
    if "\r" in text or "\n" in text:
        raise ProtocolError("a header's value must not hold a line end")
    return text.encode()
