"""Waiting for a condition: polled, bounded, and with the log of whom it waited for when it did not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from okiba.core.errors import PlatformError


def until(condition: Callable[[], object], what: str, seconds: float = 60.0, log: Path | None = None) -> None:
    """Returns when the condition holds.

    Raises:
        PlatformError: It did not within `seconds`; the message ends with the log's last lines.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            tail = f"\n{log.read_text(errors='replace')[-3000:]}" if log and log.exists() else ""
            raise PlatformError(f"waited {seconds:g} s for {what}{tail}")
        time.sleep(0.02)
