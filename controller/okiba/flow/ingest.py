"""Hop 1: a raw notification is made durable before its sender hears of success, and nothing looks into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from okiba.core.errors import RequestTooLarge
from okiba.ports import Inbox

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes; MinIO sends one record of about 1 KB at a time, other stores batches."""


class Ingest:
    """Takes notifications in.

    Args:
        clock: Wall clock in ms.
    """

    def __init__(self, inbox: Inbox, clock: Callable[[], int]) -> None:
        self._inbox = inbox
        self._clock = clock

    async def accept(self, lane: str, body: bytes) -> None:
        """The notification is durable when this returns; the router, which waits on the same stream, has it by then.

        Raises:
            RequestTooLarge: More than 4 MiB.
            StoreUnavailable: It may be lost: the sender has to send it again.
        """
        if len(body) > MAX_BODY:
            raise RequestTooLarge(len(body), MAX_BODY, "S3Webhook")
        await self._inbox.store(lane, body, self._clock())
