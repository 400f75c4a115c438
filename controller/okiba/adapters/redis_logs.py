"""Functions' output in Redis, bounded by bytes a function; fulfils `ports.Logs`."""

from __future__ import annotations

from typing import Any, Final

from okiba.adapters.redis_connection import entry_id
from okiba.adapters.redis_link import RedisLink
from okiba.core.errors import Throttled
from okiba.ports import LogChunk

KEEP_FORGOTTEN_MS: Final = 7 * 86_400_000
"""How long output stays after its function is gone."""

READ_COUNT: Final = 256

MAX_READERS: Final = 64
"""Readers who wait at a time; each has a connection to Redis of his own."""


class RedisLogs:
    """The output of all functions of a tenant.

    Args:
        max_bytes: Kept per function; beyond it the oldest chunks go.
    """

    def __init__(self, link: RedisLink, tenant: str, max_bytes: int) -> None:
        self._link = link
        self._tenant = tenant
        self._max_bytes = max_bytes
        self._readers = 0

    async def append(self, function: str, slot: str, from_offset: int, time_ms: int, body: bytes, dropped: int) -> None:
        """Keeps what a slot wrote; bytes of it that are kept already (by their offsets) are not kept twice."""
        args = (slot, from_offset, time_ms, dropped, body, self._max_bytes)
        await self._link.script("logs_append", (self._base(function),), args)

    async def read(self, function: str, after: str, wait_ms: int) -> list[LogChunk]:
        """Oldest first, from the one behind `after` (empty: all there is), waiting up to `wait_ms` for the first.

        Raises:
            InvalidParameter: `after` is no id of a chunk.
            Throttled: Too many wait already.
        """
        logs, start = f"{self._base(function)}:logs", entry_id(after) if after else "0"
        reply = await self._link.call("XREAD", "COUNT", READ_COUNT, "STREAMS", logs, start)
        if not reply and wait_ms > 0:
            reply = await self._wait(logs, start, wait_ms)
        return [_chunk(entry) for entry in reply[0][1]] if reply else []

    async def forget(self, function: str) -> None:
        """The function is gone: its output stays for 7 days."""
        base = self._base(function)
        for key in (f"{base}:logs", f"{base}:logs:ends", f"{base}:logs:bytes"):
            await self._link.call("PEXPIRE", key, KEEP_FORGOTTEN_MS)

    async def _wait(self, logs: str, start: str, wait_ms: int) -> Any:
        if self._readers >= MAX_READERS:
            raise Throttled("TooManyLogReaders")
        self._readers += 1
        try:
            command = ("XREAD", "COUNT", READ_COUNT, "BLOCK", wait_ms, "STREAMS", logs, start)
            return await self._link.wait(*command, timeout_ms=wait_ms)
        finally:
            self._readers -= 1

    def _base(self, function: str) -> str:
        return f"okiba:{{{self._tenant}/{function}}}"


def _chunk(entry: Any) -> LogChunk:
    _, slot, _, _, _, at, _, dropped, _, body = entry[1]
    return LogChunk(entry[0].decode(), slot.decode(), int(at), body, int(dropped))
