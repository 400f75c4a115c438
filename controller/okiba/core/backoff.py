"""Pauses between tries, each twice as long as the one before.

Two shapes of one rule: `Backoff` for something that is tried again and again, `Setbacks` for many things of which each
is tried on its own, several at once perhaps. Neither waits, reads a clock or draws a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next try.

    Args:
        first_s: After the first failure.
        last_s: After the failure from which on doubling would pass this.
        failures: In a row, so far.
    """

    first_s: float
    last_s: float
    failures: int = 0

    def failed(self, chance: float = 1.0) -> float:
        """The seconds to wait after one failure more.

        Args:
            chance: From 0 to 1, which makes the pause half to whole, so that not all who wait come at once.
        """
        self.failures += 1
        whole_s = min(self.last_s, self.first_s * 2.0 ** min(self.failures - 1, 62))
        return whole_s * (0.5 + chance / 2)

    def succeeded(self) -> None:
        """The next failure is a first one."""
        self.failures = 0


@dataclass(slots=True)
class _Setback:
    reason: str
    backoff: Backoff
    until_s: float


class Setbacks:
    """Things of which the last try failed, by name; times are seconds of any one clock.

    Args:
        first_s: The pause after the first failure.
        last_s: The longest.
    """

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._of: dict[str, _Setback] = {}

    def failed(self, name: str, reason: str, now_s: float) -> float | None:
        """The pause that begins now; None while an earlier one lasts: that try was begun beside the one that failed."""
        setback = self._of.setdefault(name, _Setback(reason, Backoff(self._first_s, self._last_s), now_s))
        if now_s < setback.until_s:
            return None
        pause_s = setback.backoff.failed()
        setback.reason, setback.until_s = reason, now_s + pause_s
        return pause_s

    def succeeded(self, name: str) -> None:
        """All is well with it again."""
        self._of.pop(name, None)

    def pausing(self, name: str, now_s: float) -> bool:
        """Whether it is not to be tried yet."""
        return name in self._of and now_s < self._of[name].until_s

    def reasons(self, now_s: float, told_s: float) -> Iterator[str]:
        """Why things failed that are not well again, up to `told_s` after their pauses."""
        return (setback.reason for setback in self._of.values() if now_s < setback.until_s + told_s)
