"""Both ends of a fleet link without slots: a keeper that has whatever it is given, a listener that remembers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from okiba.ports import SlotAddress


class FakeKeeper:
    """`SlotKeeper`: has the slots it is given and notes what it is told."""

    def __init__(self, *slots: SlotAddress) -> None:
        self.have = {slot.id: slot for slot in slots}
        self.taken: list[tuple[str, str, str]] = []
        self.wanted: dict[str, int] = {}
        self.retired: list[str] = []

    def slots(self) -> Sequence[SlotAddress]:
        return list(self.have.values())

    def took(self, slot_id: str, function: str, revision: str) -> None:
        self.taken.append((slot_id, function, revision))

    def want(self, kind: str, count: int, each: Sequence[int] = ()) -> None:
        self.wanted[kind] = count

    def retire(self, slot_id: str) -> None:
        self.retired.append(slot_id)


class FakeListener:
    """`ports.FleetListener`: notes what it is told."""

    def __init__(self) -> None:
        self.dealt: list[SlotAddress] = []
        self.gone: list[tuple[str, str]] = []
        self.synced = 0
        self.answers: list[tuple[str, int, tuple[str, ...]]] = []
        self.refused = 0

    def slot_dealt(self, slot: SlotAddress) -> None:
        self.dealt.append(slot)

    def slot_gone(self, slot_id: str, reason: str) -> None:
        self.gone.append((slot_id, reason))

    def fleet_synced(self) -> None:
        self.synced += 1

    def doubt_answered(self, gateway: str, life: int, slots: Collection[str]) -> None:
        self.answers.append((gateway, life, tuple(slots)))

    def fleet_refused(self) -> None:
        self.refused += 1
