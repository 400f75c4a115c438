"""Sweeps of buckets, as they are asked for and as people see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pass has come, for people.

    Args:
        state: `asked`, `running`, `done` or `failed`.
        why: What it was made for: `asked`, `restart`, `schedule`.
        reason: Why it failed.
    """

    state: str
    why: str
    existing: bool = False
    looked: int = 0
    found: int = 0
    after: str = ""
    began_ms: int = 0
    ended_ms: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody wants a bucket swept.

    Args:
        existing: Also what was there before the bindings.
    """

    existing: bool
    at_ms: int


def waiting(asks: Mapping[str, Ask]) -> dict[str, Progress]:
    """Passes that have been asked for and have not ended, by bucket."""
    return {bucket: Progress("asked", "asked", ask.existing, began_ms=ask.at_ms) for bucket, ask in asks.items()}
