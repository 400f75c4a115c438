"""What a kubelet and Prometheus ask the controller. Nothing here is secret; the network policy says who may ask.

GET /healthz   200 as long as this process's loop turns, whether it leads or waits; a line of JSON
GET /readyz    the same; a controller that waits to lead is as ready as it can be
GET /metrics   Prometheus's text
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
_JSON: Final = b"application/json"


async def serve_health(address: str, leading: Callable[[], bool], metrics: Callable[[], bytes]) -> None:
    """Answers at `host:port` until cancelled.

    Args:
        metrics: Prometheus's text as it is just now.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head, leading(), metrics))
                await writer.drain()
        writer.close()

    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(serve, host.strip("[]"), int(port), limit=MAX_HEAD)
    async with server:
        await server.serve_forever()


def _answer(head: bytes, leading: bool, metrics: Callable[[], bytes]) -> bytes:
    words = head.split(b" ", 2)
    path = words[1] if len(words) == 3 and words[0] == b"GET" else b""
    if path == b"/metrics":
        return _page(b"200 OK", b"text/plain; version=0.0.4; charset=utf-8", metrics())
    if path in _PATHS:
        return _page(b"200 OK", _JSON, json.dumps({"ok": True, "leading": leading}).encode())
    return _page(b"404 Not Found", _JSON, b'{"error": "not found"}')


def _page(status: bytes, kind: bytes, body: bytes) -> bytes:
    fields = b"Content-Type: %b\r\nConnection: close\r\nContent-Length: %d" % (kind, len(body))
    return b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, fields, body)
