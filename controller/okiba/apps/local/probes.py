"""Does a component answer? One question each, on loopback, never an exception."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 2.0


async def http_answers(port: int, path: str, status: int = 200) -> bool:
    """Whether GET is answered with this status."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            return await _first_line(reader, writer, request, b"HTTP/1.1 %d" % status)
    except (OSError, TimeoutError):
        return False


async def valkey_answers(socket: Path) -> bool:
    """Whether PING is answered with PONG: not while it still loads its file."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            return await _first_line(reader, writer, b"PING\r\n", b"+PONG")
    except (OSError, TimeoutError):
        return False


async def jobs_answer(socket: Path) -> bool:
    """Whether a Celery worker waits for tasks: a client of the broker's database that is in BRPOP."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"CLIENT LIST\r\n")
                size = int((await reader.readline())[1:])
                clients = (await reader.readexactly(size)).splitlines()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False
    return any(b" db=1 " in client and b" cmd=brpop " in client for client in clients)


async def socket_accepts(socket: Path) -> bool:
    """Whether somebody listens there."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_unix_connection(socket)
            writer.close()
    except (OSError, TimeoutError):
        return False
    return True


async def _first_line(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, expected: bytes
) -> bool:
    try:
        writer.write(request)
        return (await reader.readline()).startswith(expected)
    finally:
        writer.close()
