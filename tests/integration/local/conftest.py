from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 20.0


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ok", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def running(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """The coroutine runs meanwhile; what it raises fails the test."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def becomes_true(condition: Callable[[], object], what: str = "", patience_s: float = PATIENCE_S) -> None:
    """Polls until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what or condition}"
        await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], object], what: str = "", patience_s: float = PATIENCE_S) -> None:
    """The same, outside of an event loop."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what or condition}"
        time.sleep(0.01)
