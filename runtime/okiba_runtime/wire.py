"""HTTP heads, as far as PROTOCOL.md allows them: bytes in, values out, no socket in sight.

Both the agent's control calls and the worker's data connection are read and written here, so that the vectors in
`tests/vectors/protocol/` cover the slot's side whole.
"""

from __future__ import annotations

import re

# With the empty line that ends it.
MAX_HEAD = 16 * 1024
END_OF_HEAD = b"\r\n\r\n"

# One search over the whole head, since taking its lines apart one by one cost a third of an invocation.
_fields = re.compile(rb"\r\n([!#-'*+.0-9A-Z^-z|~-]+):([^\r\n]*)").findall

_REASONS = {200: b"OK", 400: b"Bad Request", 403: b"Forbidden", 404: b"Not Found", 409: b"Conflict", 410: b"Gone",
            500: b"Internal Server Error", 503: b"Service Unavailable"}  # fmt: skip


class Malformed(ValueError):
    """The bytes are not what the protocol allows; the message says what was seen."""


def parse_head(head: bytes) -> tuple[bytes, bytes, dict[bytes, bytes]]:
    """Method, target and headers (names in lower case) of a request head without its final empty line.

    Raises:
        Malformed: Not an HTTP/1.1 head, too long a one, a header twice, or one that changes the framing.
    """
    if len(head) + len(END_OF_HEAD) > MAX_HEAD:
        raise head_too_long()
    first, _, _ = head.partition(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1":
        raise Malformed(f"expected 'METHOD target HTTP/1.1', got {first[:100]!r}")
    fields = _fields(head)
    headers = {name.lower(): value.strip() for name, value in fields}
    # A line that the pattern left out, or a line end that is none, shows in the counts.
    if not head.count(b"\n") == head.count(b"\r") == len(fields):
        raise Malformed(f"expected lines of 'Name: value', got {head[len(first) : len(first) + 200]!r}")
    if len(headers) != len(fields):
        raise Malformed("a header twice")
    if b"transfer-encoding" in headers:
        raise Malformed("Transfer-Encoding; bodies have a Content-Length here")
    return words[0], words[1], headers


def head_too_long() -> Malformed:
    """The error of a head that is too long, or has not ended though it is as long as it may be."""
    return Malformed(f"a head of more than {MAX_HEAD} bytes")


def body_length(headers: dict[bytes, bytes], limit: int) -> int:
    """How long the body is.

    Raises:
        Malformed: Not a number, or more than `limit`.
    """
    raw = headers.get(b"content-length", b"0")
    if not raw.isdigit() or len(raw) > 12:
        raise Malformed(f"Content-Length must be a number, got {raw[:40]!r}")
    length = int(raw)
    if length > limit:
        raise Malformed(f"a body of at most {limit} bytes is allowed, got {length}")
    return length


def split_target(target: bytes) -> tuple[str, dict[str, str]]:
    """Path and query of a request target; nothing in this protocol needs percent-encoding, so none is undone."""
    path, _, query = target.decode("latin-1").partition("?")
    return path, dict(pair.partition("=")[::2] for pair in query.split("&") if pair)


def response(status: int, headers: list[tuple[str, str]], body: bytes = b"") -> bytes:
    """A whole response. Header values must be free of line ends; what is not latin-1 becomes `?`."""
    lines = [b"HTTP/1.1 %d %s" % (status, _REASONS[status])]
    lines += [f"{name}: {value}".encode("latin-1", "replace") for name, value in headers]
    lines.append(b"Content-Length: %d\r\n\r\n" % len(body))
    return b"\r\n".join(lines) + body
