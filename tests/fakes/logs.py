"""Functions' output in memory: what `RedisLogs` does, without the durability."""

from __future__ import annotations

import asyncio

from okiba.ports import LogChunk

ENTRY = 96


class MemoryLogs:
    """The output of all functions.

    Args:
        max_bytes: Kept per function.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._chunks: dict[str, list[tuple[LogChunk, int]]] = {}
        self._count = 0
        self._arrived = asyncio.Event()

    async def append(self, function: str, slot: str, from_offset: int, time_ms: int, body: bytes, dropped: int) -> None:
        chunks = self._chunks.setdefault(function, [])
        known = max((end for chunk, end in chunks if chunk.slot == slot), default=0)
        end = from_offset + len(body)
        if end <= known:
            return
        if from_offset < known:
            body, dropped = body[known - from_offset :], 0
        kept = body[-self._max_bytes :]
        self._count += 1
        chunk = LogChunk(f"{self._count}-0", slot, time_ms, kept, dropped + len(body) - len(kept))
        chunks.append((chunk, end))
        while sum(len(chunk.body) + ENTRY for chunk, _ in chunks) > self._max_bytes + ENTRY:
            chunks.pop(0)
        self._arrived.set()

    async def read(self, function: str, after: str, wait_ms: int) -> list[LogChunk]:
        chunks = self._behind(function, after)
        if not chunks and wait_ms > 0:
            self._arrived.clear()
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await self._arrived.wait()
            except TimeoutError:
                return []
            chunks = self._behind(function, after)
        return chunks

    async def forget(self, function: str) -> None:
        """Nothing is done: no test lives for 7 days."""

    def _behind(self, function: str, after: str) -> list[LogChunk]:
        behind = int(after.partition("-")[0]) if after else 0
        return [chunk for chunk, _ in self._chunks.get(function, []) if int(chunk.id.partition("-")[0]) > behind]
