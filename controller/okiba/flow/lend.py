"""Hop 3 for hot functions: an owner lends slots to neighbours that pass many calls on; these run them themselves then.

    neighbour ──call──▶ owner ──answer, and a free slot──▶ neighbour connects to it, and uses it for its own callers
                          ▲───────── the slot comes back: idle for a while, recalled, or its borrower dead ◀──┘

A slot that is lent counts at its owner as if it were there, so the limit holds. A borrower never makes a slot, and
connects to none again that it has given back; it says every second what it has, and what it does not name is back.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from okiba.core.errors import NotOwner, PlatformError
from okiba.core.function import Function
from okiba.core.placement import HandedSlot
from okiba.flow.inherit import Inheritance
from okiba.flow.scale import ScalePolicy
from okiba.flow.share import SharedScaler
from okiba.flow.slots import FunctionSlots, Got
from okiba.ports import Fleet, Slot, SlotAddress, SlotOpener

LEND_AFTER: Final = 10
"""Calls within a second that a neighbour has passed on before it is lent a slot."""

IDLE_S: Final = 2.0
"""A borrowed slot that nobody has used for so long goes back."""

UNNAMED_S: Final = 4.0
"""A lent slot that its borrower has not named for so long has not reached it, or has left it."""

RECALL_S: Final = 1.0
"""How long a borrower that was asked to return a function's slots takes no others."""


class Loan(NamedTuple):
    """A slot on its way to a borrower.

    Args:
        epoch: The lender's.
    """

    slot: SlotAddress
    epoch: int


@dataclass(slots=True)
class _Lent:
    """A slot at a neighbour's; `named_s` is when that one last said so."""

    slots: FunctionSlots
    slot: SlotAddress
    borrower: str
    named_s: float


@dataclass(slots=True)
class Borrowed:
    """What this gateway has of one function's owner, who has asked for it back since `recalled_s`."""

    slots: FunctionSlots
    recalled_s: float | None = None


class LendingScaler(SharedScaler):
    """The scaler of one gateway among several, which lend each other slots.

    Attributes:
        borrowed: What is borrowed here, by function.
        on_recall: Called when a neighbour is to give a function's slots back.
        on_return: Called when a neighbour gets a function's slot back.
    """

    def __init__(
        self,
        fleet: Fleet,
        opener: SlotOpener,
        function: Callable[[str], Function | None],
        policy: ScalePolicy,
        epoch: Callable[[str], int | None],
        kinds: Callable[[Function], tuple[str, ...]],
    ) -> None:
        super().__init__(fleet, opener, function, policy, epoch, kinds)
        self.borrowed: dict[str, Borrowed] = {}
        self.on_recall: Callable[[str, str], None] = lambda _gateway, _function: None
        self.on_return: Callable[[str, str], None] = lambda _gateway, _slot: None
        self._lent: dict[str, _Lent] = {}
        self._passed: Counter[tuple[str, str]] = Counter()  # calls by borrower and function, since `_counted_s`
        self._counted_s = 0.0

    # --- lending ----------------------------------------------------------------------------------------------------

    def lend(self, name: str, borrower: str) -> Loan | None:
        """A free slot for a neighbour that has just passed a call on, if it passes many."""
        now_s = self._loop.time()
        if now_s - self._counted_s > 1.0:
            self._counted_s = now_s
            self._passed.clear()
        self._passed[borrower, name] += 1
        slots = self._functions.get(name)
        if (
            self._passed[borrower, name] < LEND_AFTER
            or slots is None
            or slots.waiting
            or not slots.idle
            or name in self.borrowed
        ):
            return None
        slot, _ = slots.idle[-1]
        address = next((each for each in self._fleet.taken(name) if each.id == slot.id), None)
        if slot.dead or address is None or slots.outdated(slot):
            return None
        self._drop(slots, slot)
        slots.lent += 1
        self._lent[slot.id] = _Lent(slots, address, borrower, now_s)
        return Loan(address, slots.epoch)

    def returned(self, slot_id: str) -> None:
        """A slot that was lent is this gateway's to use again."""
        lent = self._lent.pop(slot_id, None)
        if lent is None:
            return
        lent.slots.lent -= 1
        if lent.slots.lost:
            self._tell_released(slot_id)
        elif self._functions.get(lent.slot.function) is lent.slots:
            self.adopt(Inheritance(), lent.slot)
        else:
            self._end(lent.slots, slot_id)

    def named(self, borrower: str, slots: Collection[str]) -> None:
        """What a borrower says that it has; what it has not named for a while is back."""
        now_s = self._loop.time()
        for slot_id, lent in list(self._lent.items()):
            if lent.borrower == borrower and slot_id in slots:
                lent.named_s = now_s

    def look_after_loans(self, living: Collection[str]) -> None:
        """Takes back what dead borrowers had, and what nobody names; gives back what is idle here."""
        now_s = self._loop.time()
        for slot_id, lent in list(self._lent.items()):
            if lent.borrower not in living or now_s - lent.named_s > UNNAMED_S:
                self.returned(slot_id)
        for name, borrowed in list(self.borrowed.items()):
            for slot in borrowed.slots.idle_since_before(now_s - IDLE_S):
                self._retire(borrowed.slots, slot)
            recalled_s = borrowed.recalled_s or float("-inf")
            if not borrowed.slots.all and not borrowed.slots.starting and recalled_s + RECALL_S < now_s:
                self._forget_loan(name)

    def _recall(self, slots: FunctionSlots) -> None:
        name = slots.function.name
        for borrower in {lent.borrower for lent in self._lent.values() if lent.slots is slots}:
            self.on_recall(borrower, name)

    def _grow(self, slots: FunctionSlots) -> None:
        super()._grow(slots)
        if slots.lent and slots.waiting > len(slots.starting) and self._room(slots) <= 0:
            self._recall(slots)

    def slot_gone(self, slot_id: str, reason: str) -> None:
        """The fleet says that the slot's processes have ended."""
        lent = self._lent.pop(slot_id, None)
        if lent is not None:
            lent.slots.lent -= 1
            self._tell_released(slot_id)
            self._grow(lent.slots)
        super().slot_gone(slot_id, reason)

    def function_deleted(self, name: str) -> None:
        """Its slots go, those that were lent too."""
        for slot_id, lent in list(self._lent.items()):
            if lent.slot.function == name:
                del self._lent[slot_id]
                self._end(lent.slots, slot_id)
        super().function_deleted(name)
        self.borrowed.pop(name, None)

    # --- handing over -----------------------------------------------------------------------------------------------

    def let_go(self, name: str) -> FunctionSlots | None:
        """The function is another gateway's from now on; what was lent of it is asked back, for that one."""
        slots = super().let_go(name)
        if slots is not None and slots.lent:
            slots.left.update(slot_id for slot_id, lent in self._lent.items() if lent.slots is slots)
            self._recall(slots)
        return slots

    async def handed(self, slots: FunctionSlots) -> list[HandedSlot]:
        """The slots of a function that was let go; those that are lent count as busy until they are back."""
        return [replace(slot, busy=slot.busy or slot.id in self._lent) for slot in await super().handed(slots)]

    async def released(self, slot_id: str) -> None:
        """Returns when nobody uses the slot any more, here or as this gateway's borrower."""
        if slot_id in self._lent:
            await self._awaited.setdefault(slot_id, asyncio.Event()).wait()
        await super().released(slot_id)

    def _tell_released(self, slot_id: str) -> None:
        if slot_id in self._awaited:
            self._awaited.pop(slot_id).set()

    def inherit(self, name: str, epoch: int, doubts: Collection[tuple[str, int]] = ()) -> Inheritance:
        """The function is this gateway's from now on, and so are the slots of it that were borrowed."""
        borrowed = self.borrowed.pop(name, None)
        if borrowed is not None:
            borrowed.slots.lender = ""
        return super().inherit(name, epoch, doubts)

    # --- borrowing --------------------------------------------------------------------------------------------------

    def borrow(self, function: Function, lender: str, loan: Loan) -> None:
        """Connects to a slot that an owner lends; goes back to it if it cannot be used."""
        borrowed, name = self.borrowed.get(function.name), function.name
        if borrowed is not None and borrowed.slots.lender != lender:
            self._forget_loan(name)
            borrowed = None
        recalled = borrowed is not None and borrowed.recalled_s is not None
        if self._epoch(name) is not None or recalled or (borrowed is None and name in self._functions):
            self.on_return(lender, loan.slot.id)
            return
        if borrowed is None:
            slots = self._functions[name] = FunctionSlots(function, loan.epoch, lender=lender)
            borrowed = self.borrowed[name] = Borrowed(slots)
        borrowed.slots.epoch = loan.epoch
        borrowed.slots.starting.add(loan.slot.id)
        self._spawn(self._connect(borrowed, function, loan.slot))

    async def _connect(self, borrowed: Borrowed, function: Function, address: SlotAddress) -> None:
        slots = borrowed.slots
        try:
            slot = await self._opener.open(address, function, lambda dead: self._slot_died(slots, dead))
        except PlatformError:
            self.on_return(slots.lender, address.id)
            return
        finally:
            self._not_starting(slots, address.id)
        self._add(slots, slot)

    async def acquire(self, function: Function, asynchronous: bool, wait_ms: int = 0) -> Got:
        """A slot to run one invocation in; of what is borrowed, only a free one: the owner has others."""
        slots = self._functions.get(function.name)
        if slots is not None and slots.lender and not slots.takes_turns and not slots.idle:
            raise NotOwner(f"all slots of {function.name} that are borrowed here are busy")
        return await super().acquire(function, asynchronous, wait_ms)

    def recalled(self, name: str) -> None:
        """The owner needs its slots: free ones go back now, busy ones when their call has ended."""
        borrowed = self.borrowed.get(name)
        if borrowed is None:
            return
        borrowed.recalled_s = self._loop.time()
        for slot, _ in list(borrowed.slots.idle):
            self._retire(borrowed.slots, slot)

    def return_all(self) -> None:
        """Everything that is borrowed goes back: what is free now, the rest when its call has ended."""
        for name in list(self.borrowed):
            self.recalled(name)

    def borrowing(self) -> dict[str, list[str]]:
        """Slots that are borrowed, by lender."""
        slots: dict[str, list[str]] = defaultdict(list)
        for borrowed in self.borrowed.values():
            slots[borrowed.slots.lender] += [*borrowed.slots.all, *borrowed.slots.starting]
        return slots

    def _forget_loan(self, name: str) -> None:
        borrowed = self.borrowed.pop(name)
        if self._functions.get(name) is borrowed.slots:
            del self._functions[name]
        borrowed.slots.refuse_all(NotOwner(f"what was borrowed of {name} went back"))
        for slot, _ in list(borrowed.slots.idle):
            self._retire(borrowed.slots, slot)

    def _room(self, slots: FunctionSlots) -> int:
        return 0 if slots.lender else super()._room(slots)

    def _free(self, slots: FunctionSlots, slot: Slot) -> None:
        loan = self.borrowed.get(slots.function.name)
        kept = loan is not None and loan.slots is slots and loan.recalled_s is None and not slot.dead
        if slots.lender and not kept:
            self._retire(slots, slot)
        else:
            super()._free(slots, slot)

    def _end(self, slots: FunctionSlots, slot_id: str) -> None:
        if slots.lender:
            self.on_return(slots.lender, slot_id)
        else:
            super()._end(slots, slot_id)
