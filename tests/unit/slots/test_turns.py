"""Short calls take turns in few slots: stories with a fake fleet."""

import asyncio

from okiba.ports import SlotAddress
from tests.unit.slots.test_scaler import FUNCTION, World


async def busy_with_short_calls(world, idle):
    """Four calls run, others' slots are free, and what has run so far was short."""
    slots = [await world.scaler.acquire(FUNCTION, False) for _ in range(4 + idle)]
    for slot in slots:
        world.scaler.release(slot, False, duration_us=50)
    return [world.scaler.acquire_now(FUNCTION, False) for _ in range(4)]


async def test_short_calls_take_turns_in_few_slots_rather_than_use_every_free_one():
    world = World(warm=6)
    held = await busy_with_short_calls(world, idle=2)
    assert world.scaler.acquire_now(FUNCTION, False) is None
    fifth = asyncio.create_task(world.scaler.acquire(FUNCTION, False))
    await asyncio.sleep(0)
    world.scaler.release(held[0], False, duration_us=50)
    assert await fifth is held[0]
    assert world.scaler.states()["f"] == {"idle": 2, "busy": 4, "starting": 0, "waiting": 0}


async def test_who_waits_for_a_turn_that_does_not_come_gets_a_free_slot():
    world = World(warm=6)
    held = await busy_with_short_calls(world, idle=2)
    waiting = [asyncio.create_task(world.scaler.acquire(FUNCTION, False)) for _ in range(3)]
    async with asyncio.timeout(1):
        got = [await waiting[0], await waiting[1]]
    assert not {slot.id for slot in got} & {slot.id for slot in held}
    assert world.fleet.wanted == {"python3.11": 1}  # the third one had no free slot to wait beside
    world.scaler.release(got[0], False, duration_us=50)
    assert await waiting[2] is got[0]
    assert world.fleet.wanted == {"python3.11": 0}


async def test_who_waits_for_his_turn_gets_a_new_slot_once_the_free_ones_are_given_up():
    world = World(warm=6, wait_ms=2_000)
    held = await busy_with_short_calls(world, idle=2)
    waiting = [asyncio.create_task(world.scaler.acquire(FUNCTION, False)) for _ in range(2)]
    await asyncio.sleep(0)
    for slot, _ in list(world.scaler._functions["f"].idle):
        world.scaler._retire(world.scaler._functions["f"], slot)
    for slot in held:  # as many turns as keep the others waiting, to calls that came later
        world.scaler._functions["f"].give_back(False, 50)
        world.scaler._functions["f"].calling += 1
        del slot
    world.fleet.warm = [SlotAddress(f"new{number}", "python3.11", "unix:/x") for number in range(2)]
    async with asyncio.timeout(1):
        assert {(await each).id for each in waiting} == {"new0", "new1"}


async def test_turns_that_go_on_are_looked_at_again_until_they_do_not():
    world = World(warm=6, wait_ms=2_000)
    held = await busy_with_short_calls(world, idle=2)
    waiting = asyncio.create_task(world.scaler.acquire(FUNCTION, False))
    await asyncio.sleep(0)
    slots = world.scaler._functions["f"]
    slots.turns += 4  # the first look finds that calls have ended since, the second that none have
    async with asyncio.timeout(1):
        assert await waiting not in held


async def test_one_call_that_was_held_up_does_not_end_the_turns_of_short_ones():
    world = World(warm=6)
    held = await busy_with_short_calls(world, idle=2)
    world.scaler.release(held[0], False, duration_us=900_000)
    assert world.scaler.acquire_now(FUNCTION, False) is not None
    assert world.scaler.acquire_now(FUNCTION, False) is None


async def test_long_calls_do_not_wait_for_each_other():
    world = World(warm=6)
    slots = [await world.scaler.acquire(FUNCTION, False) for _ in range(6)]
    for slot in slots:
        world.scaler.release(slot, False, duration_us=20_000)
    assert all(world.scaler.acquire_now(FUNCTION, False) for _ in range(6))


async def test_a_caller_who_leaves_while_waiting_for_a_turn_takes_no_slot_with_him():
    world = World(warm=6)
    held = await busy_with_short_calls(world, idle=2)
    leaving = asyncio.create_task(world.scaler.acquire(FUNCTION, False))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    for slot in held:
        world.scaler.release(slot, False, duration_us=50)
    assert world.scaler.states()["f"] == {"idle": 6, "busy": 0, "starting": 0, "waiting": 0}
