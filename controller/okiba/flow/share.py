"""Hop 3 among several gateways: functions and their slots change hands, and no limit is passed by one.

A gateway that gets a function connects to every slot that there is of it, which fences the former owner off. What it
cannot reach counts until it is gone; so does what a dead owner may have made of the warm slots that it had, which the
controller names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Final

from okiba.core.errors import NotOwner, PlatformError
from okiba.core.function import Function
from okiba.core.placement import HandedSlot
from okiba.flow.inherit import Doubts, Inheritance, Life
from okiba.flow.scale import ScalePolicy, Scaler
from okiba.flow.slots import FunctionSlots
from okiba.ports import Fleet, Slot, SlotAddress, SlotOpener

log = logging.getLogger(__name__)

_NO_FUNCTION: Final = Function("", "", "", "", 0, "", 0, "")
"""Stands for a function that cannot be called, in the bookkeeping of slots that are still there of it."""
_STARTS_S = 1.0
"""How long slots that are just being specialised may take to be ready before their function is handed over."""


async def at_once() -> None:
    """For slots that nobody else uses."""


class SharedScaler(Scaler):
    """The scaler of one gateway among several: `ports.FleetListener`."""

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
        self._doubts = Doubts()
        self._awaited: dict[str, asyncio.Event] = {}  # slots that a new owner waits for
        self.on_adopted: Callable[[str, Slot | None, str], Coroutine[None, None, None]] | None = None
        """Awaited for each inherited slot: function, the slot (None when lost), what ran in it (or empty)."""
        self.on_refused: Callable[[], None] = lambda: None
        """Called when the controller takes this life of the gateway for dead."""

    # --- for the fleet ----------------------------------------------------------------------------------------------

    def slot_dealt(self, slot: SlotAddress) -> None:
        """A warm slot came; or one of a function of ours was heard of late, which a former owner took."""
        super().slot_dealt(slot)
        if slot.function:
            known = self._functions.get(slot.function)
            self.adopt(known.inheritance if known else Inheritance(), slot)

    def slot_gone(self, slot_id: str, reason: str) -> None:
        """The fleet says that the slot's processes have ended."""
        super().slot_gone(slot_id, reason)
        doubtful = [slots for slots in self._functions.values() if slots.doubts]
        for life in self._doubts.gone(slot_id):
            self._trust(life)
        for slots in doubtful:
            self._grow(slots)

    def fleet_synced(self) -> None:
        """Nothing waits for that here: what nobody has told of yet is in doubt."""

    def doubt_answered(self, gateway: str, life: int, slots: Collection[str]) -> None:
        """It is known which slots a dead gateway may have put to use."""
        news = self._doubts.open.get((gateway, life), set()) is None
        concerned = [each for each in self._functions.values() if (gateway, life) in each.doubts]
        if self._doubts.answered((gateway, life), slots):
            self._trust((gateway, life))
        for each in concerned:
            if news:
                each.inheritance.known()
            self._grow(each)

    def fleet_refused(self) -> None:
        """The controller takes this life of the gateway for dead."""
        self.on_refused()

    def _trust(self, life: Life) -> None:
        self._fleet.trust(*life)
        for slots in self._functions.values():
            slots.doubts.discard(life)

    def _room(self, slots: FunctionSlots) -> int:
        doubtful = self._doubts.count(slots.doubts) if slots.doubts else 0
        return 0 if doubtful is None else super()._room(slots) - doubtful

    # --- getting a function -----------------------------------------------------------------------------------------

    def inherit(self, name: str, epoch: int, doubts: Collection[Life] = ()) -> Inheritance:
        """The function is this gateway's from now on; slots that a former owner left are added by `adopt`.

        Args:
            doubts: Gateways that died with warm slots in hand: until it is known which, and that they are gone, they
                count as the function's.
        """
        slots = self._functions.get(name)
        function = self._function(name)
        if slots is None and function is not None and doubts:
            slots = self._functions[name] = FunctionSlots(function)
        if slots is None:
            return Inheritance()
        slots.epoch, slots.inheritance = epoch, Inheritance()
        for life in doubts:
            slots.doubts.add(life)
            if self._doubts.raised(life):
                self._fleet.doubt(*life)
            if self._doubts.open[life] is None:
                slots.inheritance.expect()
        return slots.inheritance

    def adopt(
        self,
        inheritance: Inheritance,
        address: SlotAddress,
        free: Callable[[], Awaitable[None]] = at_once,
        *,
        busy: bool = False,
    ) -> None:
        """Takes over a slot that another gateway made; connecting fences that one off.

        Args:
            free: Awaited first.
            busy: A call of the former owner's is still being answered on his connection.
        """
        function, epoch = self._function(address.function), self._epoch(address.function)
        slots = self._slots_of(function) if function and epoch else FunctionSlots(_NO_FUNCTION, epoch or 0)
        known = address.id in self._owners or address.id in self._unsure or address.id in slots.starting
        if epoch is not None:
            self._fleet.took(address, epoch)
        if epoch is None or known:
            return
        slots.starting.add(address.id)  # it counts from now on
        if busy:  # not with asynchronous work: nobody's inheritance is in it
            self._nobody_waits_for(slots, address.id)
            inheritance = Inheritance()
        inheritance.expect()
        self._spawn(self._take_over(slots, inheritance, address, free))

    async def _take_over(
        self,
        slots: FunctionSlots,
        inheritance: Inheritance,
        address: SlotAddress,
        free: Callable[[], Awaitable[None]],
    ) -> None:
        running, slot = "", None
        try:
            await free()
            running = await self._opener.running(address)
            if running:
                inheritance.running.add(running)
                inheritance.known()
                self._nobody_waits_for(slots, address.id)
            slot = await self._opened(slots, address)
            if self.on_adopted is not None:
                await self.on_adopted(address.function, slot, running)
        finally:
            inheritance.running.discard(running)
            if not running:
                inheritance.known()
        if slot is not None:
            self._free(slots, slot)

    def _nobody_waits_for(self, slots: FunctionSlots, slot_id: str) -> None:
        """A handler that runs there may run for minutes: the slot counts, and callers get others meanwhile."""
        self._not_starting(slots, slot_id)
        slots.unsure.add(slot_id)
        self._unsure[slot_id] = slots
        self._grow(slots)

    async def _opened(self, slots: FunctionSlots, address: SlotAddress) -> Slot | None:
        slot: Slot | None = None
        try:
            if slots.function is not _NO_FUNCTION:
                slot = await self._opener.open(address, slots.function, lambda dead: self._slot_died(slots, dead))
        except PlatformError as error:
            log.warning("a slot could not be taken over", extra={"slot": address.id, "reason": str(error)})
        self._not_starting(slots, address.id)
        slots.unsure.discard(address.id)
        self._unsure.pop(address.id, None)
        if slot is None:
            self._give_up(slots, address.id)
            return None
        slots.all[slot.id] = slot
        self._owners[slot.id] = slots
        return slot

    # --- letting one go ---------------------------------------------------------------------------------------------

    def let_go(self, name: str) -> FunctionSlots | None:
        """The function is another gateway's from now on: calls that wait are told, slots released and not ended.

        Calls that are being answered go on. What was asked for asynchronously has to be cancelled by the caller.
        """
        slots = self._functions.pop(name, None)
        if slots is None:
            return None
        slots.lost = True
        slots.left = {*slots.all, *slots.starting, *slots.unsure}
        for slot_id in slots.unsure:
            self._unsure.pop(slot_id, None)
        self._refuse(slots, NotOwner(f"function {name} has become another gateway's"))
        for slot, _ in list(slots.idle):
            self._retire(slots, slot)
        return slots

    async def handed(self, slots: FunctionSlots) -> list[HandedSlot]:
        """The slots of a function that was let go, for its next owner; those just being made are waited for."""
        deadline = self._loop.time() + _STARTS_S
        while slots.starting and self._loop.time() < deadline:  # noqa: ASYNC110 (a rare moment, not worth an event)
            await asyncio.sleep(0.005)
        return [
            HandedSlot(slot.id, slot.kind, slot.address, slot.revision, slot.id in self._holders)
            for slot in self._fleet.taken(slots.function.name)
            if slot.id in slots.left
        ]

    def _free(self, slots: FunctionSlots, slot: Slot) -> None:
        super()._free(slots, slot)
        if slots.lost and slot.id in self._awaited:
            self._awaited.pop(slot.id).set()

    async def released(self, slot_id: str) -> None:
        """Returns when no call of a function that was let go is in the slot any more."""
        slots = self._holders.get(slot_id)
        if slots is not None and slots.lost:
            await self._awaited.setdefault(slot_id, asyncio.Event()).wait()

    def open_doubts(self, slots: FunctionSlots) -> list[Life]:
        """Dead gateways that may still have slots of the function."""
        return [life for life in slots.doubts if life in self._doubts.open]
