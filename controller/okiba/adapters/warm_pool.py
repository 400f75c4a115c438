"""Warm slots as one gateway holds them: by kind, and by pod, for a pod belongs to one function's revision for life."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from okiba.core.slot_kind import pod_of
from okiba.ports import SlotAddress

Pod = dict[str, SlotAddress]
"""Warm slots of one pod, by id."""


class WarmPool:
    """The warm slots dealt to this gateway."""

    def __init__(self) -> None:
        self._free: dict[str, dict[str, Pod]] = {}  # kind → pod → slots, of pods that no function has
        self._kept: dict[tuple[str, str], dict[str, Pod]] = {}  # (function, revision) → pod → slots beside its own
        self._keepers: dict[str, tuple[str, str]] = {}  # pod → whose
        self._members: dict[str, set[str]] = {}  # pod → slots of it that were dealt here and have not ended

    def add(self, slot: SlotAddress) -> None:
        """A slot was dealt."""
        pod = pod_of(slot.id)
        self._members.setdefault(pod, set()).add(slot.id)
        keeper = self._keepers.get(pod)
        pods = self._free.setdefault(slot.kind, {}) if keeper is None else self._kept.setdefault(keeper, {})
        pods.setdefault(pod, {})[slot.id] = slot

    def claim(self, kinds: Sequence[str], function: str, revision: str) -> SlotAddress | None:
        """A slot of a pod that the function has already, else of one that nobody has: the one dealt last, its pages are
        the warmest.
        """
        keeper = (function, revision)
        if pods := self._kept.get(keeper):
            return self._take(pods, keeper)
        for kind in kinds:
            if pods := self._free.get(kind):
                pod, slots = pods.popitem()
                _, slot = slots.popitem()
                self._keepers[pod] = keeper
                if slots:
                    self._kept.setdefault(keeper, {})[pod] = slots
                return slot
        return None

    def _take(self, pods: dict[str, Pod], keeper: tuple[str, str]) -> SlotAddress:
        pod, slots = next(iter(pods.items()))
        _, slot = slots.popitem()
        if not slots:
            del pods[pod]
        if not pods:
            del self._kept[keeper]
        return slot

    def ended(self, slot_id: str) -> None:
        """The slot is gone, or no longer this gateway's, wherever it was."""
        pod = pod_of(slot_id)
        for pods in (*self._free.values(), *self._kept.values()):
            slots = pods.get(pod, {})
            if slots.pop(slot_id, None) and not slots:
                del pods[pod]
        members = self._members.get(pod, set())
        members.discard(slot_id)
        if not members:
            self._members.pop(pod, None)
            self._keepers.pop(pod, None)

    def give_back(self, pod: str) -> list[str]:
        """Takes a pod that nobody has claimed from out of the pool; empty when there is none such."""
        for pods in self._free.values():
            if pod in pods:
                return list(pods.pop(pod))
        return []

    def disclaim(self, function: str, revision: str) -> list[str]:
        """Takes out what was kept for a function's revision; for any when that is empty."""
        keepers = [keeper for keeper in self._kept if keeper[0] == function and revision in {"", keeper[1]}]
        return [slot_id for keeper in keepers for slots in self._kept.pop(keeper).values() for slot_id in slots]

    def clear(self) -> list[str]:
        """Takes everything out."""
        ids = [slot.id for slot in self]
        self._free, self._kept = {}, {}
        return ids

    def counts(self) -> dict[str, int]:
        """Slots by kind."""
        return dict(Counter(slot.kind for slot in self))

    def __iter__(self) -> Iterator[SlotAddress]:
        shelves = [*self._free.values(), *self._kept.values()]
        return (slot for pods in shelves for slots in pods.values() for slot in slots.values())
