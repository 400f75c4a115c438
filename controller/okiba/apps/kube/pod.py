"""One pod of slots in the keeper's hand: what was seen of it, and what became of each of its slots.

    COMING ──▶ WARM ──▶ TAKEN ──▶ LEAVING ──▶ ENDED
       │         └──────────────────▲            ▲
       └────────────────────────────┴────────────┘   a slot only ever moves to the right

Not here: what is decided about pods; that is the fleet's.
"""

from __future__ import annotations

import time
from enum import IntEnum

from okiba.core.slot_kind import SlotKind
from okiba.core.slot_pod import NOBODYS, Holding, PodSeen, SlotPhase
from okiba.ports import SlotAddress


class SlotState(IntEnum):
    """What the keeper knows, or has decided, of a slot."""

    COMING = 0  # its agent does not serve yet
    WARM = 1  # dealt, and nobody has taken it as far as is known
    TAKEN = 2
    LEAVING = 3  # it is to end, and nobody uses it
    ENDED = 4


class Pod:
    """A pod that was asked for, or found.

    Args:
        size: How many slots it has.
        seen: None until the cluster has answered.
    """

    def __init__(self, name: str, kind: SlotKind, size: int, seen: PodSeen | None = None) -> None:
        self.name, self.kind = name, kind
        self.seen = seen
        self.states = [SlotState.COMING] * size
        self.holding: Holding = NOBODYS
        self.warming: set[int] = set()  # whose agents are being asked whether they serve
        self.parting: set[int] = set()  # whose last words are being read
        self.deleting = False
        self.resized = False
        self.begun_at = self.moved_at = time.monotonic()
        if seen is not None:
            self._remember(seen)

    def _remember(self, seen: PodSeen) -> None:
        """Takes over what an earlier controller has recorded."""
        self.holding = seen.holding
        for number in seen.holding.slots:
            if number < self.size and seen.slots[number].phase is SlotPhase.RUNNING:
                self.states[number] = SlotState.TAKEN

    @property
    def size(self) -> int:
        """How many slots it was made with."""
        return len(self.states)

    @property
    def uid(self) -> str:
        """The cluster's own name of it; empty while it is not known."""
        return self.seen.uid if self.seen else ""

    @property
    def living(self) -> int:
        """Slots that use something of a node, or will."""
        return sum(state < SlotState.ENDED for state in self.states)

    @property
    def coming(self) -> list[int]:
        """Numbers of the slots that are still to be dealt."""
        return [] if self.deleting else [n for n, state in enumerate(self.states) if state is SlotState.COMING]

    @property
    def nobodys(self) -> bool:
        """No function has taken a slot of it."""
        return not self.holding.function

    @property
    def unused(self) -> bool:
        """No slot of it is anybody's, or may come to be."""
        return all(state >= SlotState.LEAVING for state in self.states) and not self.parting

    @property
    def spoilt(self) -> bool:
        """Some of its slots are over and none is anybody's: the rest is better made anew."""
        over = any(state >= SlotState.LEAVING for state in self.states)
        return over and SlotState.TAKEN not in self.states and not self.coming

    @property
    def unmoved_s(self) -> float:
        """How long nothing has happened to its slots."""
        return time.monotonic() - self.moved_at

    def warm(self) -> list[int]:
        """Numbers of the slots that nobody has taken."""
        return [number for number, state in enumerate(self.states) if state is SlotState.WARM]

    def move(self, number: int, state: SlotState) -> bool:
        """The slot is in that state, if it was not there, or beyond, already; whether that is news."""
        if state <= self.states[number]:
            return False
        self.states[number] = state
        self.moved_at = time.monotonic()
        return True

    def touch(self) -> None:
        """Something has happened to it, if only that it was asked."""
        self.moved_at = time.monotonic()

    def take(self, number: int, function: str, revision: str) -> bool:
        """The slot is this function's; False when that was known."""
        if self.states[number] > SlotState.TAKEN or number in self.holding.slots:
            return False
        self.move(number, SlotState.TAKEN)
        self.holding = self.holding.with_slot(number, function, revision)
        return True

    def slot_id(self, number: int) -> str:
        """Unique for ever."""
        return f"{self.name}.{number}"

    def address(self, number: int) -> SlotAddress:
        """The slot as gateways are told of it."""
        place = self.seen.address(number) if self.seen else ""
        slot = SlotAddress(self.slot_id(number), str(self.kind), place)
        if self.states[number] is not SlotState.TAKEN:
            return slot
        return SlotAddress(slot.id, slot.kind, place, self.holding.function, self.holding.revision)
