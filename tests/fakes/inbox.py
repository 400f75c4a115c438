"""The inbox in memory: what `RedisInbox` does, without the durability."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from okiba.core.errors import StoreUnavailable
from okiba.ports import Quarantine, Quarantined, RawNotification

QUARANTINE_COUNT = 1_000
QUARANTINE_BODY = 64 * 1024


class MemoryInbox:
    """An inbox.

    Args:
        away: While true every call fails, as when the store is away.
    """

    def __init__(self) -> None:
        self.away = False
        self._entries: dict[str, RawNotification] = {}
        self._unsettled: set[str] = set()
        self._quarantine: list[Quarantined] = []
        self._stored = 0
        self._quarantined = 0
        self._arrived = asyncio.Event()

    async def store(self, lane: str, body: bytes, received_ms: int) -> None:
        self._present()
        self._stored += 1
        entry = f"{self._stored}-0"
        self._entries[entry] = RawNotification(entry, lane, received_ms, body)
        self._arrived.set()

    async def read(self, count: int, wait_ms: int) -> list[RawNotification]:
        self._present()
        again = [self._entries[entry] for entry in self._entries if entry in self._unsettled]
        if again:
            return again[:count]
        fresh = self._unread(count)
        if not fresh and wait_ms > 0:
            await self._wait(wait_ms)
            self._present()
            fresh = self._unread(count)
        self._unsettled.update(notification.entry for notification in fresh)
        return fresh

    async def settle(self, entries: Sequence[str]) -> None:
        self._present()
        for entry in entries:
            self._entries.pop(entry, None)
            self._unsettled.discard(entry)

    async def quarantine(self, notification: RawNotification, reason: str) -> None:
        self._present()
        self._quarantined += 1
        body, size = notification.body[:QUARANTINE_BODY], len(notification.body)
        quarantined = Quarantined(
            f"{self._quarantined}-0", notification.lane, notification.received_ms, reason, body, size
        )
        self._quarantine = [quarantined, *self._quarantine][:QUARANTINE_COUNT]

    async def quarantined(self, count: int) -> Quarantine:
        self._present()
        return Quarantine(self._quarantined, tuple(self._quarantine[:count]))

    async def _wait(self, wait_ms: int) -> None:
        self._arrived.clear()
        try:
            async with asyncio.timeout(wait_ms / 1000):
                await self._arrived.wait()
        except TimeoutError:
            return

    def _unread(self, count: int) -> list[RawNotification]:
        return [self._entries[entry] for entry in self._entries if entry not in self._unsettled][:count]

    def _present(self) -> None:
        if self.away:
            raise StoreUnavailable("the inbox is away")
