"""Waiting in tests: for a condition, polled, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Returns when the condition holds; fails after `seconds`, saying what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)


async def until_async(condition: Callable[[], Awaitable[object]], what: str, seconds: float = 60.0) -> None:
    """As `until`, for a condition that has to ask somebody."""
    async with asyncio.timeout(seconds + 10):
        deadline = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
            await asyncio.sleep(0.05)


async def soon(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Returns when the condition holds, which somebody in this loop makes true; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)
