"""What both ends of the fleet link share: lines of JSON, addresses, and the token (DESIGN.md has the messages)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from okiba.core.errors import InvalidParameter
from okiba.ports import SlotAddress

Message = Mapping[str, Any]

LONGEST_LINE: Final = 64 * 1024
LONGEST_BACKLOG: Final = 4 * 1024 * 1024
"""Bytes that may wait for a gateway that does not read; it is cut off then, and gets everything when it is back."""

HELLO_S: Final = 5.0


def fleet_token(platform_key: str) -> str:
    """What a gateway proves with that it belongs to this installation."""
    return hmac.new(bytes.fromhex(platform_key), b"fleet", hashlib.sha256).hexdigest()


def slot_of(document: Mapping[str, str]) -> SlotAddress:
    """A slot as a message tells it."""
    return replace(SlotAddress("", "", ""), **{field.name: document[field.name] for field in fields(SlotAddress)})


def line(message: Message) -> bytes:
    """A message's bytes."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


async def read(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message; empty at the end of the stream.

    Raises:
        ValueError: It is longer than a line may be, or no JSON object.
    """
    told = await reader.readline()
    if not told.endswith(b"\n"):
        return {}
    message = json.loads(told)
    if not isinstance(message, dict):
        raise ValueError(f"expected a JSON object, got {told[:80]!r}")  # noqa: TRY004 (of the peer, not of a caller)
    return message


def _place(address: str) -> tuple[str, int]:
    """Host and port of `tcp:host:port`, or path and 0 of `unix:/path`."""
    scheme, _, rest = address.partition(":")
    if scheme == "unix" and rest:
        return rest, 0
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host and port.isdigit():
        return host, int(port)
    raise InvalidParameter(f"OKIBA_FLEET_ADDRESS must be unix:/path or tcp:host:port, got {address!r}")


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a controller.

    Raises:
        InvalidParameter: The address is none.
        OSError: Nobody listens there.
        TimeoutError: Nobody answers.
    """
    host, port = _place(address)
    async with asyncio.timeout(HELLO_S):
        if port:
            return await asyncio.open_connection(host, port, limit=LONGEST_LINE)
        return await asyncio.open_unix_connection(host, limit=LONGEST_LINE)


async def listen(address: str, serve: Any) -> asyncio.Server:
    """A server there.

    Raises:
        InvalidParameter: The address is none.
    """
    host, port = _place(address)
    if port:
        return await asyncio.start_server(serve, host, port, limit=LONGEST_LINE)
    Path(host).unlink(missing_ok=True)
    return await asyncio.start_unix_server(serve, host, limit=LONGEST_LINE)
