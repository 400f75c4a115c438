"""Payloads of asynchronous work: a small one travels with its work, a large one is kept in the object store.

What travels then in its place is a reference. It begins with a NUL, with which no JSON text begins, so that neither can
be taken for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LARGE_BYTES: Final = 256 * 1024
"""Larger ones are kept in the object store: what waits in a queue must not fill Redis's memory. SQS's own limit."""

PREFIX: Final = "payloads/"

_MARK: Final = b"\0"


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a large payload is kept: its key in the platform's bucket, and its size."""

    key: str
    size: int

    def encoded(self) -> bytes:
        """What travels in the payload's place."""
        return _MARK + f"{self.size} {self.key}".encode()


def reference_of(payload: bytes) -> Reference | None:
    """The reference that stands in a payload's place; None when it is the payload itself."""
    if payload[:1] != _MARK:
        return None
    size, _, key = payload[1:].decode().partition(" ")
    return Reference(key, int(size))


def is_kept_apart(payload: bytes) -> bool:
    """Whether a payload goes to the object store: a large one, and one that looks like a reference."""
    return len(payload) > LARGE_BYTES or payload[:1] == _MARK


def payload_bytes(payload: bytes) -> int:
    """The size of the payload, wherever it is kept."""
    reference = reference_of(payload)
    return len(payload) if reference is None else reference.size


def payload_key(tenant: str, function: str, request_id: str) -> str:
    """Where the payload of one piece of work lies in the platform's bucket."""
    return f"{PREFIX}{tenant}/{function}/{request_id}"


def owner_of_key(key: str) -> tuple[str, str, str] | None:
    """Tenant, function and request id of a payload's key; None where the key is none of ours."""
    parts = key.removeprefix(PREFIX).split("/")
    return (parts[0], parts[1], parts[2]) if key.startswith(PREFIX) and len(parts) == 3 else None
