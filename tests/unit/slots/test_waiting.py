"""Who waits for a slot, and until when he is told that there is none: stories with a fake fleet."""

import asyncio

import pytest

from okiba.core.errors import NoSlot, SlotLost
from tests.unit.slots.test_scaler import FUNCTION, World


async def test_each_who_waits_is_told_after_his_own_time():
    world = World(wait_ms=1_000)
    patient = asyncio.create_task(world.scaler.acquire(FUNCTION, False, 60))
    await asyncio.sleep(0)
    ends = [await ended(patient), *[await ended(world.scaler.acquire(FUNCTION, False, wait)) for wait in (40, 10)]]
    assert ends == ["60 ms", "40 ms", "10 ms"]


async def test_who_came_later_and_waits_less_long_is_told_first():
    world = World(wait_ms=1_000)
    told = []

    async def wait(wait_ms):
        told.append(await ended(world.scaler.acquire(FUNCTION, False, wait_ms)))

    await asyncio.gather(wait(80), wait(20), wait(50))
    assert told == ["20 ms", "50 ms", "80 ms"]


async def ended(waiting):
    with pytest.raises(NoSlot) as told:
        await waiting
    return str(told.value).rpartition("within ")[2]


async def test_who_waits_while_his_slot_is_in_its_init_phase_hears_how_that_ended():
    world = World(warm=1, wait_ms=20)
    began, opened = asyncio.Event(), world.opener.open

    async def slowly(address, function, on_dead):
        await began.wait()
        world.opener.init_error = b'{"errorType": "Sandbox.Timedout"}'
        return await opened(address, function, on_dead)

    world.opener.open = slowly
    first = asyncio.create_task(world.scaler.acquire(FUNCTION, False))
    await asyncio.sleep(0)
    assert await ended(world.scaler.acquire(FUNCTION, False)) == "20 ms"  # only one slot was starting
    began.set()
    assert (await first).error_type == "Sandbox.Timedout"


async def test_who_has_waited_too_long_is_told_so_once_his_slot_failed_to_start():
    world = World(warm=1, wait_ms=20)
    tried = asyncio.Event()

    async def broken(address, function, on_dead):
        await tried.wait()
        raise SlotLost("gone")

    world.opener.open = broken
    waiting = asyncio.create_task(world.scaler.acquire(FUNCTION, False))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    tried.set()
    async with asyncio.timeout(1):
        assert await ended(waiting) == "20 ms"


async def test_those_who_wait_have_one_timer_among_them_however_many_slots_start_and_fail():
    world = World(wait_ms=5_000)
    waiting = [asyncio.create_task(world.scaler.acquire(FUNCTION, False)) for _ in range(5)]
    await asyncio.sleep(0)
    slots = world.scaler._functions["f"]
    for number in range(20):
        slots.starting.add(f"s{number}")
        world.scaler._not_starting(slots, f"s{number}")
    timers = [each for each in asyncio.get_running_loop()._scheduled if not each.cancelled()]
    assert [each for each in timers if each._callback == slots.alarm._rung] == [slots.alarm._handle]
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
