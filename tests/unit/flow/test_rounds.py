import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from okiba.flow.rounds import WORKERS, Rounds


def made(chance=1.0):
    return Rounds(lambda: time.monotonic_ns() // 1_000_000, lambda: chance)


@asynccontextmanager
async def working(rounds, look):
    task = asyncio.create_task(rounds.work(look))
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Looks:
    """Notes every name looked at, and holds each look until it is let go."""

    def __init__(self, *answers):
        self.seen, self.answers = [], list(answers)
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, name):
        self.seen.append(name)
        await self.open.wait()
        return self.answers.pop(0) if self.answers else None

    async def until(self, count):
        async with asyncio.timeout(10):
            while len(self.seen) < count:
                await asyncio.sleep(0.001)


async def test_what_was_added_before_and_while_it_works_is_looked_at():
    rounds, looks = made(), Looks()
    rounds.add("early")
    async with working(rounds, looks):
        await looks.until(1)
        rounds.add("late")
        await looks.until(2)
    assert looks.seen == ["early", "late"]


async def test_a_look_that_asks_for_another_gets_it():
    rounds, looks = made(), Looks(5)
    rounds.add("photos")
    async with working(rounds, looks):
        await looks.until(2)
    assert looks.seen == ["photos", "photos"]


async def test_nothing_is_looked_at_before_its_time():
    rounds, looks = made(), Looks()
    rounds.add("later", 60_000)
    rounds.add("now")
    async with working(rounds, looks):
        await looks.until(1)
    assert looks.seen == ["now"]


async def test_something_nearer_is_not_kept_waiting_by_something_far():
    rounds, looks = made(), Looks()
    rounds.add("later", 60_000)
    async with working(rounds, looks):
        await asyncio.sleep(0)
        rounds.add("soon", 5)
        await looks.until(1)
    assert looks.seen == ["soon"]


async def test_several_are_looked_at_side_by_side_and_none_twice_at_a_time():
    rounds, looks = made(), Looks()
    looks.open.clear()
    for number in range(WORKERS + 1):
        rounds.add(f"photos{number}")
    async with working(rounds, looks):
        await looks.until(WORKERS)
        rounds.add("photos0")
        assert looks.seen == [f"photos{number}" for number in range(WORKERS)]
        looks.open.set()
        await looks.until(WORKERS + 2)
    assert looks.seen.count("photos0") == 2


async def test_a_look_that_raises_ends_the_work():
    async def broken(name):
        raise LookupError(name)

    rounds = made()
    rounds.add("photos")
    with pytest.raises(ExceptionGroup) as raised:
        await rounds.work(broken)
    assert raised.group_contains(LookupError)


async def test_pauses_double_with_each_failure_of_one_name_and_begin_anew_after_a_success():
    rounds = made()
    assert [rounds.failed("photos"), rounds.failed("photos"), rounds.failed("mails")] == [500, 1000, 500]
    assert [rounds.failures("photos"), rounds.failures("others")] == [2, 0]
    rounds.succeeded("photos")
    rounds.succeeded("others")
    assert rounds.failed("photos") == 500


async def test_chance_takes_up_to_half_of_a_pause():
    assert made(chance=0.0).failed("photos") == 250
