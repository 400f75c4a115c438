"""Hop 3: which slots a function has, who gets the next free one, and when one is given up.

`Scaler` holds every function's slots in this gateway and shares the fleet's warm slots out among them. A caller asks
`acquire` and gets a slot, or an outcome that stands for none. Nothing here touches a store, so that a synchronous
call does not; how many slots are wanted is decided in `core.scaling`. How slots change hands between gateways is
`flow.share`'s.

A function's limit is held exactly: only its owner makes slots, and whatever may be one counts, seen or not.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial

from okiba.core.alarm import Alarm
from okiba.core.errors import NoSlot, NotFound, NotOwner, OkibaError, PlatformError, Throttled
from okiba.core.function import Function
from okiba.core.invocation import Ending, Outcome
from okiba.core.scaling import Demand, Limits, desired_slots
from okiba.flow.slots import AT_ONCE, FunctionSlots, Got, Waiter
from okiba.ports import Fleet, Slot, SlotAddress, SlotOpener

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_TURN_S = 0.005
"""How long callers wait for their turn when none comes: as if the function's calls had become long."""


@dataclass(frozen=True, slots=True)
class ScalePolicy:
    """The operator's part of scaling.

    Args:
        default_concurrency: Slots a function without a reservation may have.
        async_width: Slots that a backlog alone may make one function use.
        wait_ms: How long a call waits for a slot.
        idle_ms: A slot without calls for so long is given up.
        max_slots: Slots that the whole fleet may have, warm ones included.
        spare: How many of them are kept from functions that had calls before, for those that have their first.
    """

    default_concurrency: int
    async_width: int
    wait_ms: int
    idle_ms: int
    max_slots: int
    spare: int = 0


class Scaler:
    """All slots of this gateway.

    Args:
        function: Looks a function up by name; None when it does not exist (any more).
        epoch: In which this gateway owns a function; None when it does not.
        kinds: The pools that may serve a function, best first.
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
        self._fleet = fleet
        self._opener = opener
        self._function = function
        self._policy = policy
        self._epoch = epoch
        self._kinds = kinds
        self._functions: dict[str, FunctionSlots] = {}
        self._owners: dict[str, FunctionSlots] = {}
        self._holders: dict[str, FunctionSlots] = {}  # of slots with a call in them, dead ones included
        self._unsure: dict[str, FunctionSlots] = {}
        self._wanted: dict[str, tuple[int, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    # --- for callers ------------------------------------------------------------------------------------------------

    def acquire_now(self, function: Function, asynchronous: bool) -> Slot | None:
        """A free slot at once, or None: the data path's first look."""
        slots = self._functions.get(function.name)
        if slots is None or slots.function is not function or slots.waiting or slots.takes_turns:
            return None
        return self._taken(slots, asynchronous)

    def _taken(self, slots: FunctionSlots, asynchronous: bool) -> Slot | None:
        slot = slots.take_idle(asynchronous)
        if slot is not None:
            self._holders[slot.id] = slots
        return slot

    async def acquire(self, function: Function, asynchronous: bool, wait_ms: int = 0) -> Got:
        """A slot to run one invocation in, or the outcome that stands for it: its init phase failed.

        Args:
            wait_ms: How long the call may wait; 0: as the policy says.

        Raises:
            Throttled: The function's limit is reached, by calls that run or by callers who wait.
            NoSlot: None became free in time.
            NotOwner: The function is another gateway's, or has become so while the call waited.
        """
        slots = self._slots_of(function)
        in_turn = slots.takes_turns
        if not in_turn:
            self._hand_out(slots)
            free = self._taken(slots, asynchronous)
            if free is not None:
                return free
        if not asynchronous and slots.calling + slots.working + len(slots.callers) >= self.limit(function):
            raise _throttled(function)
        wait_ms = self.wait_ms(wait_ms)
        waiter = Waiter(self._loop.create_future(), self._loop.time() + wait_ms / 1000, wait_ms)
        slots.queue(waiter, asynchronous)
        self._alarm(slots).by(waiter.due)
        if in_turn:
            self._watch_turns(slots)
        else:
            self._grow(slots)
        try:
            return await waiter.future
        except BaseException:
            self._unqueue(slots, waiter, asynchronous)
            raise
        finally:
            if self._wanted or not in_turn:
                self._ask_fleet(function)

    def _unqueue(self, slots: FunctionSlots, waiter: Waiter, asynchronous: bool) -> None:
        slots.unqueue(waiter, asynchronous)
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self._return_unused(future.result(), asynchronous)

    def _alarm(self, slots: FunctionSlots) -> Alarm:
        if slots.alarm is None:
            slots.alarm = Alarm(self._loop.call_at, partial(self._expire, slots))
        return slots.alarm

    def _expire(self, slots: FunctionSlots) -> None:
        now, name = self._loop.time(), slots.function.name
        for waiter in slots.expired(now):
            waiter.future.set_exception(NoSlot(f"no slot for {name} became free within {waiter.wait_ms} ms"))
        self._alarm(slots).by(slots.next_expiry())

    def _watch_turns(self, slots: FunctionSlots) -> None:
        if slots.turner is None:
            slots.turner = self._loop.call_later(_TURN_S, self._turned, slots, slots.turns)

    def _turned(self, slots: FunctionSlots, turns: int) -> None:
        """Where calls have not ended as they used to, those who wait for their turn get what is free, or new slots."""
        slots.turner = None
        if slots.turns - turns < AT_ONCE:
            self._hand_out(slots)
        if slots.waiting and slots.idle:
            self._watch_turns(slots)
        elif slots.waiting:
            self._grow(slots)

    def _hand_out(self, slots: FunctionSlots) -> None:
        """Free slots go to those who wait for their turn."""
        while slots.waiting and slots.idle:
            slot, since = slots.idle.pop()
            if slot.dead:
                continue
            if not slots.offer(slot):
                slots.idle.append((slot, since))
                return
            self._holders[slot.id] = slots

    def _return_unused(self, got: Got, asynchronous: bool) -> None:
        if not isinstance(got, Outcome):
            self.release(got, asynchronous)

    def release(self, slot: Slot, asynchronous: bool, duration_us: int = 0) -> None:
        """The slot's invocation has ended: the slot serves the next caller, or waits for one."""
        # Not looked up by the function's name: meanwhile it may have been deleted, or made anew.
        slots = self._holders.pop(slot.id)
        slots.give_back(asynchronous, duration_us)
        self._free(slots, slot)

    def current(self, name: str) -> Function | None:
        """The function as it is now; it may have been changed or deleted while a call of it ran."""
        return self._function(name)

    def wait_ms(self, wished_ms: int) -> int:
        """How long a call waits for a slot that wishes to wait so long; 0: as the policy says."""
        return min(wished_ms or self._policy.wait_ms, self._policy.wait_ms)

    def limit(self, function: Function) -> int:
        """How many slots the function may have."""
        reserved = function.reserved_concurrency
        return self._policy.default_concurrency if reserved is None else reserved

    # --- for the fleet ----------------------------------------------------------------------------------------------

    def slot_dealt(self, slot: SlotAddress) -> None:
        """A warm slot came."""
        if slot.function:
            return
        for slots in list(self._functions.values()):
            if slots.waiting:
                self._grow(slots)

    def slot_gone(self, slot_id: str, reason: str) -> None:
        """The fleet says that the slot's processes have ended."""
        self._opener.gone(slot_id, reason)
        unsure, slots = self._unsure.pop(slot_id, None), self._owners.get(slot_id)
        if unsure is not None:
            unsure.unsure.discard(slot_id)
            self._grow(unsure)
        if slots is not None:
            log.info("slot gone", extra={"slot": slot_id, "function": slots.function.name, "reason": reason})
            self._drop(slots, slots.all[slot_id])
            self._grow(slots)

    # --- growing ----------------------------------------------------------------------------------------------------

    def _slots_of(self, function: Function) -> FunctionSlots:
        slots = self._functions.get(function.name)
        if slots is None:
            epoch = self._epoch(function.name)
            if epoch is None:
                raise NotOwner(f"function {function.name} is another gateway's")
            slots = self._functions[function.name] = FunctionSlots(function, epoch)
        elif slots.function is not function:
            self.function_changed(function)
        return slots

    def function_changed(self, function: Function) -> None:
        """A new revision: free slots of the old one go now, busy ones when their invocation has ended."""
        slots = self._functions.get(function.name)
        if slots is None:
            return
        if slots.function.revision != function.revision:
            self._fleet.disclaim(function.name, slots.function.revision)
        slots.function = function
        slots.failures, slots.not_before = 0, 0.0
        for slot, _ in list(slots.idle):
            if slots.outdated(slot) or slots.counted > self.limit(function):
                self._retire(slots, slot)

    def function_deleted(self, name: str) -> None:
        """Its free slots go; busy ones finish first; calls that wait are told."""
        slots = self._functions.pop(name, None)
        if slots is None:
            return
        self._fleet.disclaim(name)
        for slot, _ in list(slots.idle):
            self._retire(slots, slot)
        self._refuse(slots, NotFound(f"Function not found: {name} (it was deleted while the call waited)"))

    def _refuse(self, slots: FunctionSlots, error: OkibaError) -> None:
        slots.refuse_all(error)
        self._ask_fleet(slots.function)

    def _grow(self, slots: FunctionSlots) -> None:
        function = slots.function
        if self._functions.get(function.name) is not slots:
            return  # deleted, or made anew, since
        demand = Demand(slots.calling + len(slots.callers), slots.working + len(slots.workers))
        desired = desired_slots(demand, Limits(self.limit(function), self._policy.async_width))
        coming = len(slots.starting)
        missing = min(desired - len(slots.all) - coming, slots.waiting - coming, self._room(slots))
        if missing > 0 and slots.not_before > self._loop.time():
            self._grow_later(slots)
            return
        for begun in range(missing):
            address = self._fleet.claim(self._kinds(function), function.name, function.revision)
            if address is None:
                self._make_room(missing - begun)
                break
            slots.starting.add(address.id)
            taken = replace(address, function=function.name, revision=function.revision)
            self._fleet.took(taken, slots.epoch)
            self._spawn(self._start(slots, function, address))
        self._ask_fleet(function)

    def _room(self, slots: FunctionSlots) -> int:
        """How many slots the function may have more."""
        return self.limit(slots.function) - slots.counted

    def _grow_later(self, slots: FunctionSlots) -> None:
        if slots.timer is None:

            def due() -> None:
                slots.timer = None
                self._grow(slots)

            slots.timer = self._loop.call_at(slots.not_before, due)

    def _make_room(self, count: int, but: Slot | None = None) -> None:
        """Where the fleet is full, slots that have been idle longest go, whosever they are: for who waits, or will."""
        surplus = len(self._owners) + count - self._policy.max_slots
        if surplus <= 0:
            return
        idle = [
            (since, slots, slot) for slots in self._functions.values() for slot, since in slots.idle if slot is not but
        ]
        idle.sort(key=lambda entry: entry[0])
        for _, slots, slot in idle[:surplus]:
            self._retire(slots, slot)

    def _ask_fleet(self, function: Function) -> None:
        """Says how many slots calls wait for, of the kind that this function likes best, when that has changed."""
        kind = self._kinds(function)[0]
        each = [
            max(0, min(slots.waiting - len(slots.idle) - len(slots.starting), self._room(slots)))
            for slots in self._functions.values()
            if slots.waiting and self._kinds(slots.function)[0] == kind
        ]
        wanted = tuple(count for count in each if count)
        if self._wanted.get(kind, ()) != wanted:
            if wanted:
                self._wanted[kind] = wanted
            else:
                del self._wanted[kind]
            self._fleet.want(kind, sum(wanted), wanted)

    async def _start(self, slots: FunctionSlots, function: Function, address: SlotAddress) -> None:
        try:
            slot = await self._opener.open(address, function, lambda dead: self._slot_died(slots, dead))
        except PlatformError as error:
            self._not_starting(slots, address.id)
            self._give_up(slots, address.id)
            self._start_failed(slots, error)
            return
        except BaseException:
            self._not_starting(slots, address.id)
            self._give_up(slots, address.id)
            raise
        self._not_starting(slots, address.id)
        if slot.greeting.init_error is not None:
            self._end(slots, slot.id)
            slots.offer(_init_failed(slot))
            self._grow(slots)
            return
        slots.failures = 0
        self._add(slots, slot)

    def _not_starting(self, slots: FunctionSlots, slot_id: str) -> None:
        """One slot less is about to come: who has waited longer than he may, and does not get it, is told so."""
        slots.starting.discard(slot_id)
        if slots.waiting:
            self._alarm(slots).by(self._loop.time())

    def _give_up(self, slots: FunctionSlots, slot_id: str) -> None:
        """Ends a slot that may have become the function's nevertheless: it counts until it is gone."""
        if not slots.lost:
            slots.unsure.add(slot_id)
            self._unsure[slot_id] = slots
        self._end(slots, slot_id)

    def _end(self, slots: FunctionSlots, slot_id: str) -> None:
        if slots.lost:
            self._fleet.disown(slot_id)
        else:
            self._fleet.retire(slot_id, slots.epoch)

    def _start_failed(self, slots: FunctionSlots, error: PlatformError) -> None:
        slots.failures += 1
        if slots.failures > 1:  # once is bad luck, and someone waits
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (slots.failures - 2))
            slots.not_before = self._loop.time() + pause
        log.warning("a slot could not be started", extra={"function": slots.function.name, "reason": str(error)})
        self._grow(slots)

    def _add(self, slots: FunctionSlots, slot: Slot) -> None:
        slots.all[slot.id] = slot
        self._owners[slot.id] = slots
        self._free(slots, slot)
        self._make_room(self._policy.spare, but=slot)

    def _free(self, slots: FunctionSlots, slot: Slot) -> None:
        unknown = self._functions.get(slots.function.name) is not slots
        surplus = slots.counted > self.limit(slots.function)
        if slot.dead and not slot.ended and slot.id in slots.all:
            self._drop(slots, slot)
            self._give_up(slots, slot.id)  # what ran in it may go on: it counts until it is known to be gone
            self._grow(slots)
        elif slot.dead or unknown or surplus or slots.outdated(slot):
            self._retire(slots, slot)
            self._grow(slots)
        elif slots.offer(slot):
            self._holders[slot.id] = slots
        else:
            slots.idle.append((slot, self._loop.time()))
            if self._wanted:  # others wait, and may have found the fleet full of slots that were busy then
                self._make_room(sum(map(sum, self._wanted.values())))

    # --- shrinking --------------------------------------------------------------------------------------------------

    def _slot_died(self, slots: FunctionSlots, slot: Slot) -> None:
        # Whoever is in it is still finding out why, and gives it back then.
        if slot.id in slots.all and slot.id not in self._holders:
            self._retire(slots, slot)
            self._grow(slots)

    def _retire(self, slots: FunctionSlots, slot: Slot) -> None:
        if self._owners.get(slot.id) is slots:
            self._drop(slots, slot)
            self._end(slots, slot.id)

    def _drop(self, slots: FunctionSlots, slot: Slot) -> None:
        slots.forget(slot)
        self._owners.pop(slot.id, None)
        slot.release()

    async def reap(self) -> None:
        """Gives idle slots up as their time comes; runs for ever."""
        period_s = min(1.0, self._policy.idle_ms / 4000)
        while True:
            await asyncio.sleep(period_s)
            before = self._loop.time() - self._policy.idle_ms / 1000
            for slots in list(self._functions.values()):
                for slot in slots.idle_since_before(before):
                    self._retire(slots, slot)

    # --- for status and metrics -------------------------------------------------------------------------------------

    def states(self) -> dict[str, dict[str, int]]:
        """Per function: slots `idle`, `busy`, `starting`, and calls `waiting`."""
        return {
            name: {
                "idle": len(slots.idle),
                "busy": len(slots.all) - len(slots.idle),
                "starting": len(slots.starting),
                "waiting": slots.waiting,
            }
            for name, slots in self._functions.items()
        }

    def room_for_backlog(self, function: Function, leased: int) -> int:
        """How many more pieces of asynchronous work make sense to lease."""
        return min(self.limit(function), self._policy.async_width) - leased

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("work on a slot broke", exc_info=task.exception())


def _throttled(function: Function) -> Throttled:
    if function.reserved_concurrency is None:
        return Throttled("ConcurrentInvocationLimitExceeded")
    return Throttled("ReservedFunctionConcurrentInvocationLimitExceeded")


def _init_failed(slot: Slot) -> Outcome:
    error = slot.greeting.init_error or b"{}"
    return Outcome(Ending.FUNCTION_ERROR, error, _error_type(error), init_us=slot.greeting.init_us, slot=slot.id)


def _error_type(error: bytes) -> str:
    try:
        return str(json.loads(error).get("errorType", ""))
    except (ValueError, AttributeError, RecursionError):
        return ""
