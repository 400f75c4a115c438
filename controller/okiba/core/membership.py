"""Which gateways live, as one of them sees it from the beats in the store.

A neighbour is dead when it has not beaten for `DEAD_MS` by the store's own clock *and* this gateway has looked, without
a gap, for as long: after the store was away, or this process stopped, everybody's last beat is old and nobody is dead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

BEAT_S: Final = 1.0
LOOK_S: Final = 0.5
DEAD_MS: Final = 3_000
"""Three beats missed."""

GAP_S: Final = 1.5
"""Looks further apart than this say nothing about what was between them."""

SETTLED_S: Final = 2.0
"""A gateway that has just come gets functions of others only after so long: one that dies as it starts gets none."""


@dataclass(frozen=True, slots=True)
class Member:
    """A gateway as it tells of itself.

    Args:
        address: host:port of its peer port; empty: it is alone.
        life: Which of its lives this is.
        leaving: It hands over what it owns and will end.
    """

    name: str
    address: str
    life: int
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """A member and when it last said so, by the store's clock."""

    member: Member
    at_ms: int


class Roll:
    """Who lives; `me` always does."""

    def __init__(self, me: Member) -> None:
        self.me = me
        self.living: dict[str, Member] = {me.name: me}
        self._fresh: set[str] = {me.name}
        self._since: dict[tuple[str, int], float] = {}
        self._watching_since: float | None = None
        self._looked_s = 0.0

    def look(self, beats: Iterable[Beat], store_ms: int, now_s: float) -> bool:
        """Takes in what the store says; True when that changes who lives, or who is leaving.

        Args:
            store_ms: The store's clock at that moment.
            now_s: This process's own, which only goes forward.
        """
        first = self._watching_since is None
        if self._watching_since is None or now_s - self._looked_s > GAP_S:
            self._watching_since = now_s
        self._looked_s = now_s
        blind = (now_s - self._watching_since) * 1000 < DEAD_MS
        before, self.living, self._fresh = self.living, {self.me.name: self.me}, {self.me.name}
        for beat in beats:
            fresh = store_ms - beat.at_ms <= DEAD_MS
            if beat.member.name != self.me.name and (fresh or blind):
                self._note(beat.member, fresh, float("-inf") if first else now_s)
        known = {(member.name, member.life) for member in self.living.values()}
        self._since = {life: since for life, since in self._since.items() if life in known}
        return self.living != before

    def _note(self, member: Member, fresh: bool, since_s: float) -> None:
        self.living[member.name] = member
        if fresh:
            self._fresh.add(member.name)
            self._since.setdefault((member.name, member.life), since_s)

    def become(self, me: Member) -> None:
        """What this gateway tells of itself from now on."""
        self.me = self.living[me.name] = me

    def lives(self) -> dict[str, int]:
        """Living gateways' lives by name."""
        return {name: member.life for name, member in self.living.items()}

    def eligible(self, now_s: float) -> frozenset[str]:
        """Those that functions may be given to: they beat, have done so for a while, and are not about to leave."""
        return frozenset(name for name in self._fresh if self._is_eligible(self.living[name], now_s))

    def _is_eligible(self, member: Member, now_s: float) -> bool:
        settled = member.name == self.me.name or now_s - self._since[member.name, member.life] >= SETTLED_S
        return settled and not member.leaving
