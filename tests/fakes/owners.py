"""Owners and gateways in memory: what `RedisOwners` does, with a clock that a test turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from okiba.core.errors import StoreUnavailable
from okiba.core.membership import Beat, Member
from okiba.core.placement import HandedSlot, Owner, inherited_doubts


class MemoryOwners:
    """The records.

    Args:
        clock: The store's, in ms.
        away: While true every call fails, as when the store is away.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self.away = False
        self.records: dict[str, Owner] = {}
        self._clock = clock
        self._beats: dict[str, Beat] = {}
        self._lives = 0

    async def new_life(self) -> int:
        self._present()
        self._lives += 1
        return self._lives

    async def beat(self, me: Member) -> tuple[int, list[Beat]] | None:
        self._present()
        known = self._beats.get(me.name)
        if known is not None and known.member.life > me.life:
            return None
        self._beats[me.name] = Beat(me, self._clock())
        return await self.beats()

    async def beats(self) -> tuple[int, list[Beat]]:
        self._present()
        return self._clock(), list(self._beats.values())

    async def leave(self, me: Member) -> None:
        self._present()
        known = self._beats.get(me.name)
        if known is not None and known.member.life == me.life:
            del self._beats[me.name]

    async def read(self, functions: Sequence[str]) -> dict[str, Owner | None]:
        self._present()
        return {name: self.records.get(name) for name in functions}

    async def claim(self, function: str, me: Member, seen: Owner | None) -> int:
        self._present()
        record = self.records.get(function)
        epoch = record.epoch if record else 0
        if epoch != (seen.epoch if seen else 0):
            return 0
        new = max(epoch + 1, me.life)
        self.records[function] = Owner(me.name, me.life, new, doubts=inherited_doubts(seen))
        return new

    async def give_up(
        self,
        function: str,
        owner: str,
        epoch: int,
        doubts: Sequence[tuple[str, int]] = (),
        handed: Sequence[HandedSlot] = (),
        *,
        for_good: bool = False,
    ) -> bool:
        self._present()
        record = self.records.get(function)
        if record is None or (record.gateway, record.epoch) != (owner, epoch):
            return False
        self.records[function] = Owner(record.gateway, record.life, epoch, True, tuple(doubts), tuple(handed))
        return True

    def _present(self) -> None:
        if self.away:
            raise StoreUnavailable("the records are away")
