"""What a kubelet asks the controller: does its loop still turn? Two paths, a line of JSON; nothing here is secret.

GET /healthz   200 as long as this process answers, whether it leads or waits
GET /readyz    the same; a controller that waits to lead is as ready as it can be
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Final

REQUEST_S: Final = 5.0
MAX_HEAD: Final = 8 * 1024
_PATHS: Final = (b"/healthz", b"/readyz")


async def serve_health(address: str, leading: Callable[[], bool]) -> None:
    """Answers at `host:port` until cancelled."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head, leading()))
                await writer.drain()
        writer.close()

    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(serve, host.strip("[]"), int(port), limit=MAX_HEAD)
    async with server:
        await server.serve_forever()


def _answer(head: bytes, leading: bool) -> bytes:
    words = head.split(b" ", 2)
    known = len(words) == 3 and words[0] == b"GET" and words[1] in _PATHS
    body = json.dumps({"ok": True, "leading": leading} if known else {"error": "not found"}).encode()
    first = b"HTTP/1.1 200 OK" if known else b"HTTP/1.1 404 Not Found"
    fields = b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d" % len(body)
    return b"%b\r\n%b\r\n\r\n%b" % (first, fields, body)
