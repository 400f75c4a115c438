"""Callers who wait for slots, as the gateways tell it: per kind, how many of each function."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

GROWTH_PAUSE_S: Final = 0.15
"""Many callers of one function may be served by the slots it has before pods of eight could even start: pods for them
are begun only when they still wait after so long (the sandbox of a pod alone takes longer)."""


class Demand:
    """What is asked for right now.

    Args:
        changed: Called when it is time to look at it again.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._waiting: dict[str, list[int]] = {}
        self._since: dict[str, float] = {}
        self._changed = changed

    def set(self, kind: str, each: Sequence[int]) -> None:
        """So many wait, per function; replaces what was said before."""
        counts = sorted((count for count in each if count > 0), reverse=True)
        if not counts:
            self._waiting.pop(kind, None)
            self._since.pop(kind, None)
            return
        self._waiting[kind] = counts
        if kind not in self._since:
            self._since[kind] = time.monotonic()
            asyncio.get_running_loop().call_later(GROWTH_PAUSE_S, self._changed)
        self._changed()

    def served(self, kind: str) -> None:
        """A slot was dealt: one caller less, until a gateway says how many there are now."""
        counts = self._waiting.get(kind)
        if counts:
            counts[0] -= 1
            self.set(kind, counts)

    def kinds(self) -> list[str]:
        """Those that somebody waits for."""
        return list(self._waiting)

    def waiting(self, kind: str) -> Sequence[int]:
        """Callers without a slot, per function."""
        return self._waiting.get(kind, ())

    def lasts(self, kind: str) -> bool:
        """Whether callers have waited for longer than a moment."""
        return time.monotonic() - self._since.get(kind, time.monotonic()) >= GROWTH_PAUSE_S
