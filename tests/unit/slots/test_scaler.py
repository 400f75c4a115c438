"""Who gets a slot, when one is made, and when one goes: stories with a fake fleet."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from okiba.core.errors import NoSlot, NotFound, NotOwner, SlotLost, Throttled
from okiba.core.function import Function, State
from okiba.core.invocation import Ending, Outcome
from okiba.core.slot_kind import kinds_for as pools_for
from okiba.flow.inherit import Inheritance
from okiba.flow.scale import ScalePolicy
from okiba.flow.share import SharedScaler
from okiba.ports import Greeting, SlotAddress

FUNCTION = Function("f", "python3.11", "app.handler", "0" * 64, 1, "r1", 0, "AK", state=State.ACTIVE)


kinds_for = partial(pools_for, by_memory=False)


class FakeSlot:
    def __init__(self, slot_id, revision, init_error=None):
        self.id, self.revision, self.dead, self.released, self.ended = slot_id, revision, False, False, False
        self.greeting = Greeting("w", 1, init_error, ())

    def release(self):
        self.released = True


class FakeFleet:
    """Warm slots by number, and a note of what was said."""

    def __init__(self, warm=0):
        self.warm = [SlotAddress(f"s{number}", "python3.11", "unix:/x") for number in range(warm)]
        self.wanted, self.retired, self.known, self.disowned, self.doubts = {}, [], {}, [], []

    def claim(self, kinds, function, revision):
        return self.warm.pop() if self.warm else None

    def took(self, slot, epoch):
        self.known[slot.id] = slot

    def taken(self, function):
        return [slot for slot in self.known.values() if slot.function == function]

    def want(self, kind, count, each=()):
        self.wanted[kind] = count

    def retire(self, slot_id, epoch):
        self.retired.append(slot_id)

    def disclaim(self, function, revision=""): ...

    def disown(self, slot_id):
        self.disowned.append(slot_id)

    def doubt(self, gateway, life):
        self.doubts.append((gateway, life))

    def trust(self, gateway, life):
        self.doubts.remove((gateway, life))


class FakeOpener:
    def __init__(self):
        self.init_error, self.failures, self.on_dead, self.opened = None, 0, {}, []

    async def open(self, address, function, on_dead):
        if self.failures:
            self.failures -= 1
            raise SlotLost("gone")
        slot = FakeSlot(address.id, function.revision, self.init_error)
        self.on_dead[slot.id] = on_dead
        self.opened.append(slot)
        return slot

    def gone(self, slot_id, reason): ...

    async def running(self, address):
        return "running" if address.id == "busy" else ""


class World:
    def __init__(self, warm=0, wait_ms=500, default=100, idle_ms=50, max_slots=50, spare=0):
        self.fleet, self.opener = FakeFleet(warm), FakeOpener()
        policy = ScalePolicy(default, 4, wait_ms, idle_ms, max_slots, spare)
        self.epochs = {"f": 1, "g": 1}
        functions = {"f": FUNCTION}.get
        self.scaler = SharedScaler(self.fleet, self.opener, functions, policy, self.epochs.get, kinds_for)

    async def deal(self, count):
        for number in range(count):
            address = SlotAddress(f"late{number}", "python3.11", "unix:/x")
            self.fleet.warm.append(address)
            self.scaler.slot_dealt(address)
        await asyncio.sleep(0)


async def test_the_first_call_takes_a_warm_slot_and_the_next_one_uses_it_again():
    world = World(warm=2)
    first = await world.scaler.acquire(FUNCTION, False)
    world.scaler.release(first, False)
    assert world.scaler.acquire_now(FUNCTION, False) is first
    assert list(world.fleet.known) == [first.id]


async def test_a_call_without_a_warm_slot_is_told_to_the_fleet_and_waits():
    world = World()
    call = asyncio.create_task(world.scaler.acquire(FUNCTION, False))
    await asyncio.sleep(0)
    assert world.fleet.wanted == {"python3.11": 1}
    await world.deal(1)
    assert (await call).id == "late0"
    assert world.fleet.wanted == {"python3.11": 0}


async def test_below_the_limit_a_call_waits_and_above_it_is_refused_at_once():
    function = replace(FUNCTION, reserved_concurrency=2)
    world = World(warm=1)
    await world.scaler.acquire(function, False)
    waiting = asyncio.create_task(world.scaler.acquire(function, False))
    await asyncio.sleep(0)
    with pytest.raises(Throttled) as refused:
        await world.scaler.acquire(function, False)
    assert refused.value.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    waiting.cancel()


async def test_a_call_that_waits_too_long_is_told_so():
    world = World(wait_ms=20)
    with pytest.raises(NoSlot, match="20 ms"):
        await world.scaler.acquire(FUNCTION, False)


async def test_slots_never_exceed_the_limit_however_many_call():
    function = replace(FUNCTION, reserved_concurrency=3)
    world = World(warm=10)
    calls = [asyncio.create_task(world.scaler.acquire(function, False)) for _ in range(3)]
    await asyncio.gather(*calls)
    assert len(world.opener.opened) == 3


async def test_callers_go_before_the_backlog():
    function = replace(FUNCTION, reserved_concurrency=2)
    world = World(warm=1)
    slot = await world.scaler.acquire(function, True)
    order = []

    async def call(name, asynchronous):
        got = await world.scaler.acquire(function, asynchronous)
        order.append(name)
        world.scaler.release(got, asynchronous)

    tasks = [asyncio.create_task(call("backlog", True)), asyncio.create_task(call("caller", False))]
    await asyncio.sleep(0)
    world.scaler.release(slot, True)
    await asyncio.gather(*tasks)
    assert order == ["caller", "backlog"]


async def test_asynchronous_calls_count_towards_the_limit_that_callers_meet():
    function = replace(FUNCTION, reserved_concurrency=1)
    world = World(warm=2)
    await world.scaler.acquire(function, True)
    with pytest.raises(Throttled):
        await world.scaler.acquire(function, False)


async def test_a_lowered_limit_takes_idle_slots_away_at_once():
    world = World(warm=2)
    slots = [await world.scaler.acquire(FUNCTION, False) for _ in range(2)]
    for slot in slots:
        world.scaler.release(slot, False)
    world.scaler.function_changed(replace(FUNCTION, reserved_concurrency=0))
    assert sorted(world.fleet.retired) == sorted(slot.id for slot in slots)


async def test_a_start_that_breaks_leaves_no_place_taken_once_its_slot_is_gone():
    world = World(warm=2, wait_ms=50)

    async def broken(address, function, on_dead):
        raise RuntimeError("a defect")

    good, world.opener.open = world.opener.open, broken
    with pytest.raises(NoSlot):
        await world.scaler.acquire(replace(FUNCTION, reserved_concurrency=1), False)
    world.opener.open = good
    with pytest.raises(NoSlot):
        await world.scaler.acquire(replace(FUNCTION, reserved_concurrency=1), False)
    world.scaler.slot_gone(world.fleet.retired[0], "ended")
    assert await world.scaler.acquire(replace(FUNCTION, reserved_concurrency=1), False)


async def test_an_init_error_answers_one_call_and_the_slot_goes():
    world = World(warm=1)
    world.opener.init_error = b'{"errorType": "Runtime.ImportModuleError"}'
    outcome = await world.scaler.acquire(FUNCTION, False)
    assert isinstance(outcome, Outcome)
    assert (outcome.ending, outcome.error_type) == (Ending.FUNCTION_ERROR, "Runtime.ImportModuleError")
    assert len(world.fleet.retired) == 1


async def test_a_slot_that_cannot_be_started_is_replaced_by_another():
    world = World(warm=2)
    world.opener.failures = 1
    slot = await world.scaler.acquire(FUNCTION, False)
    assert world.fleet.retired == ["s1"]
    assert slot.id == "s0"


async def test_a_dead_slot_is_not_handed_out_and_leaves_the_count():
    world = World(warm=2)
    slot = await world.scaler.acquire(FUNCTION, False)
    world.scaler.release(slot, False)
    slot.dead = True
    world.opener.on_dead[slot.id](slot)
    assert world.scaler.acquire_now(FUNCTION, False) is None
    other = await world.scaler.acquire(FUNCTION, False)
    assert other is not slot
    assert world.fleet.retired == [slot.id]


async def test_a_cancelled_call_gives_the_slot_it_was_just_handed_to_the_next():
    function = replace(FUNCTION, reserved_concurrency=2)
    world = World(warm=1)
    held = await world.scaler.acquire(function, True)
    gone = asyncio.create_task(world.scaler.acquire(function, False))
    await asyncio.sleep(0)
    world.scaler.release(held, True)  # handed to `gone`, which is cancelled before it runs
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert world.scaler.acquire_now(function, False) is held


async def test_a_new_revision_retires_free_slots_now_and_busy_ones_when_they_are_done():
    world = World(warm=3)
    free, busy = await world.scaler.acquire(FUNCTION, False), await world.scaler.acquire(FUNCTION, False)
    world.scaler.release(free, False)
    newer = replace(FUNCTION, revision="r2")
    world.scaler.function_changed(newer)
    assert world.fleet.retired == [free.id]
    world.scaler.release(busy, False)
    assert world.fleet.retired == [free.id, busy.id]
    assert (await world.scaler.acquire(newer, False)).revision == "r2"


async def test_idle_slots_go_after_their_time():
    world = World(warm=1, idle_ms=20)
    slot = await world.scaler.acquire(FUNCTION, False)
    world.scaler.release(slot, False)
    reaper = asyncio.create_task(world.scaler.reap())
    async with asyncio.timeout(5):
        while not world.fleet.retired:
            await asyncio.sleep(0.005)
    reaper.cancel()
    assert slot.released


async def test_a_slot_of_a_former_owner_is_taken_over_and_what_runs_in_it_is_known_first():
    world = World()
    adopted = asyncio.get_running_loop().create_future()
    inheritance = Inheritance()

    async def on_adopted(name, slot, running):
        adopted.set_result((name, slot.id, running, set(inheritance.running)))

    world.scaler.on_adopted = on_adopted
    world.scaler.adopt(inheritance, SlotAddress("busy", "python3.11", "unix:/x", "f", "r1"))
    inheritance.complete()
    assert not inheritance.settled.is_set()
    assert await adopted == ("f", "busy", "running", {"running"})
    assert inheritance.settled.is_set()
    await asyncio.sleep(0)
    assert world.scaler.acquire_now(FUNCTION, False).id == "busy"


async def test_a_slot_whose_function_is_gone_is_retired_instead():
    world = World()
    world.epochs["deleted"] = 1
    world.scaler.adopt(Inheritance(), SlotAddress("orphan", "python3.11", "unix:/x", "deleted", "r1"))
    async with asyncio.timeout(5):
        while not world.fleet.retired:
            await asyncio.sleep(0)
    assert world.fleet.retired == ["orphan"]


async def test_a_full_fleet_gives_up_who_was_idle_longest_for_who_waits():
    world = World(warm=2, max_slots=2)
    first, second = await world.scaler.acquire(FUNCTION, False), await world.scaler.acquire(FUNCTION, False)
    world.scaler.release(first, False)
    world.scaler.release(second, False)
    other = asyncio.create_task(world.scaler.acquire(replace(FUNCTION, name="g"), False))
    await asyncio.sleep(0)
    assert world.fleet.retired == [first.id]
    await world.deal(1)
    assert (await other).id == "late0"


async def test_in_a_full_fleet_a_slot_that_becomes_free_goes_to_whoever_has_waited_since_all_were_busy():
    world = World(warm=2, max_slots=2)
    first, second = await world.scaler.acquire(FUNCTION, False), await world.scaler.acquire(FUNCTION, False)
    other = asyncio.create_task(world.scaler.acquire(replace(FUNCTION, name="g"), False))
    await asyncio.sleep(0)
    assert world.fleet.retired == []
    world.scaler.release(first, False)
    world.scaler.release(second, False)
    assert world.fleet.retired == [first.id]
    await world.deal(1)
    assert (await other).id == "late0"


async def test_a_fleet_that_is_nearly_full_keeps_room_for_functions_that_have_no_slot_yet():
    world = World(warm=4, max_slots=4, spare=1)
    slots = [await world.scaler.acquire(FUNCTION, False) for _ in range(3)]
    for slot in slots:
        world.scaler.release(slot, False)
    assert world.fleet.retired == []
    await world.scaler.acquire(replace(FUNCTION, name="g"), False)
    assert world.fleet.retired == [slots[0].id]


async def test_a_call_that_ends_after_its_function_was_deleted_gives_its_slot_up():
    world = World(warm=1)
    slot = await world.scaler.acquire(FUNCTION, False)
    world.scaler.function_deleted("f")
    assert world.fleet.retired == []
    world.scaler.release(slot, False)
    assert world.fleet.retired == [slot.id]


async def test_a_call_that_ends_after_its_function_was_made_anew_does_not_count_for_the_new_one():
    function = replace(FUNCTION, reserved_concurrency=1)
    world = World(warm=2)
    old = await world.scaler.acquire(function, False)
    world.scaler.function_deleted("f")
    new = await world.scaler.acquire(replace(function, revision="r9"), False)
    world.scaler.release(old, False)
    assert world.fleet.retired == [old.id]
    with pytest.raises(Throttled):
        await world.scaler.acquire(replace(function, revision="r9"), False)
    world.scaler.release(new, False)


async def test_calls_that_wait_are_told_when_their_function_is_deleted():
    world = World(wait_ms=5_000)
    waiting = asyncio.create_task(world.scaler.acquire(FUNCTION, False))
    await asyncio.sleep(0)
    world.scaler.function_deleted("f")
    with pytest.raises(NotFound):
        await waiting
    assert world.fleet.wanted == {"python3.11": 0}


async def test_a_slot_that_dies_in_a_call_is_counted_down_once():
    function = replace(FUNCTION, reserved_concurrency=1)
    world = World(warm=2)
    slot = await world.scaler.acquire(function, False)
    slot.dead = True
    world.opener.on_dead[slot.id](slot)
    slot.ended = True
    world.scaler.release(slot, False)
    other = await world.scaler.acquire(function, False)
    assert other is not slot
    with pytest.raises(Throttled):
        await world.scaler.acquire(function, False)


async def test_a_slot_lost_in_a_call_counts_until_it_is_known_to_be_gone():
    function = replace(FUNCTION, reserved_concurrency=1)
    world = World(warm=2, wait_ms=5_000)
    slot = await world.scaler.acquire(function, False)
    slot.dead = True
    world.opener.on_dead[slot.id](slot)
    world.scaler.release(slot, False)
    next_call = asyncio.create_task(world.scaler.acquire(function, False))
    await asyncio.sleep(0.02)
    assert len(world.opener.opened) == 1
    world.scaler.slot_gone(slot.id, "the node is gone")
    assert (await next_call) is not slot


# --- changing hands ---------------------------------------------------------------------------------------------------


def left(name, function="f"):
    return SlotAddress(name, "python3.11", "unix:/x", function, "r1")


async def test_nothing_runs_for_a_function_that_is_another_gateways():
    world = World(warm=1)
    del world.epochs["f"]
    with pytest.raises(NotOwner):
        await world.scaler.acquire(FUNCTION, False)


async def test_no_slot_is_made_until_it_is_known_what_a_dead_owner_may_have_made():
    world = World(warm=3, wait_ms=5_000)
    inheritance = world.scaler.inherit("f", 2, [("other", 1)])
    assert world.fleet.doubts == [("other", 1)]
    call = asyncio.create_task(world.scaler.acquire(FUNCTION, False))
    await asyncio.sleep(0.02)
    assert world.opener.opened == []
    world.scaler.doubt_answered("other", 1, [])
    assert await call
    inheritance.complete()
    assert inheritance.settled.is_set()
    assert world.fleet.doubts == []


async def test_warm_slots_of_a_dead_owner_count_against_the_limit_until_they_are_gone():
    function = replace(FUNCTION, reserved_concurrency=2)
    world = World(warm=5, wait_ms=5_000)
    world.scaler.inherit("f", 2, [("other", 1)])
    world.scaler.doubt_answered("other", 1, ["ghost"])
    await world.scaler.acquire(function, False)
    second = asyncio.create_task(world.scaler.acquire(function, False))
    await asyncio.sleep(0.02)
    assert len(world.opener.opened) == 1
    world.scaler.slot_gone("ghost", "reaped")
    assert await second


async def test_a_slot_that_cannot_be_taken_over_counts_until_it_is_gone():
    function = replace(FUNCTION, reserved_concurrency=1)
    world = World(warm=1, wait_ms=5_000)
    world.opener.failures = 1
    world.scaler.adopt(Inheritance(), left("unreachable"))
    call = asyncio.create_task(world.scaler.acquire(function, False))
    await asyncio.sleep(0.02)
    assert (world.opener.opened, world.fleet.retired) == ([], ["unreachable"])
    world.scaler.slot_gone("unreachable", "its node is gone")
    assert await call


async def test_a_slot_that_still_runs_something_counts_and_callers_do_not_wait_for_it():
    function = replace(FUNCTION, reserved_concurrency=2)
    world = World(warm=2, wait_ms=5_000)
    gate = asyncio.Event()
    good = world.opener.open

    async def slow(address, of, on_dead):
        if address.id == "busy":
            await gate.wait()
        return await good(address, of, on_dead)

    world.opener.open = slow
    world.scaler.adopt(Inheritance(), left("busy"))
    await world.scaler.acquire(function, False)
    third = asyncio.create_task(world.scaler.acquire(function, False))
    await asyncio.sleep(0.02)
    assert len(world.opener.opened) == 1
    gate.set()
    assert (await third).id == "busy"


async def test_a_function_that_is_let_go_leaves_its_slots_alive_and_tells_who_waits():
    function = replace(FUNCTION, reserved_concurrency=2)
    world = World(warm=2, wait_ms=5_000)
    idle, busy = await world.scaler.acquire(function, False), await world.scaler.acquire(function, False)
    waiting = asyncio.create_task(world.scaler.acquire(function, True))
    await asyncio.sleep(0)
    slots = world.scaler.let_go("f")
    with pytest.raises(NotOwner):
        await waiting
    world.scaler.release(idle, False)
    handed = {slot.id: slot.busy for slot in await world.scaler.handed(slots)}
    assert handed == {idle.id: False, busy.id: True}
    released = asyncio.create_task(world.scaler.released(busy.id))
    await asyncio.sleep(0)
    assert not released.done()
    world.scaler.release(busy, False)
    await released
    assert world.fleet.retired == []
    assert {*world.fleet.disowned} == {idle.id, busy.id}


async def test_a_slot_handed_over_busy_is_not_connected_to_before_it_is_free():
    world = World()
    free = asyncio.Event()
    world.scaler.adopt(Inheritance(), left("s"), free.wait, busy=True)
    await asyncio.sleep(0.01)
    assert world.opener.opened == []
    free.set()
    async with asyncio.timeout(5):
        while world.scaler.acquire_now(FUNCTION, False) is None:
            await asyncio.sleep(0)
