"""What every store of owners does."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_owners import RedisOwners
from okiba.core.membership import Member
from okiba.core.placement import HandedSlot, Owner
from okiba.flow.own import Owners
from tests.fakes.owners import MemoryOwners

ONE, TWO = Member("one", "127.0.0.1:1", 3), Member("two", "127.0.0.1:2", 4)
SLOT = HandedSlot("s", "python3.11", "unix:/x", "r1", True)


@pytest.fixture
def owners(link: RedisLink | None) -> Owners:
    return RedisOwners(link, "default") if link else MemoryOwners(lambda: time.time_ns() // 1_000_000)


async def seen(owners: Owners, function: str = "f") -> Owner | None:
    return (await owners.read([function]))[function]


async def test_a_function_that_nobody_has_is_claimed_in_an_epoch_not_below_the_life(owners):
    assert await seen(owners) is None
    assert await owners.claim("f", ONE, None) == 3
    assert await seen(owners) == Owner("one", 3, 3)


async def test_of_two_who_saw_the_same_one_gets_it(owners):
    await owners.claim("f", ONE, None)
    before = await seen(owners)
    assert await owners.claim("f", TWO, before) == 4
    assert await owners.claim("f", replace(ONE, life=9), before) == 0
    assert (await seen(owners)).gateway == "two"


async def test_each_change_of_hands_has_a_higher_epoch(owners):
    epochs = [await owners.claim("f", ONE, await seen(owners)) for _ in range(4)]
    assert epochs == sorted(set(epochs))


async def test_a_takeover_keeps_whose_warm_slots_are_in_doubt(owners):
    await owners.claim("f", ONE, None)
    await owners.claim("f", TWO, await seen(owners))
    assert (await seen(owners)).doubts == (("one", 3),)
    await owners.claim("f", Member("three", "", 5), await seen(owners))
    assert (await seen(owners)).doubts == (("one", 3), ("two", 4))


async def test_what_was_given_up_is_free_with_its_slots_and_without_doubts_about_its_owner(owners):
    epoch = await owners.claim("f", ONE, None)
    assert await owners.give_up("f", "one", epoch, [("dead", 1)], [SLOT])
    assert await seen(owners) == Owner("one", 3, epoch, True, (("dead", 1),), (SLOT,))
    await owners.claim("f", TWO, await seen(owners))
    assert await seen(owners) == Owner("two", 4, 4, False, (("dead", 1),))


async def test_a_former_owner_can_give_nothing_up(owners):
    epoch = await owners.claim("f", ONE, None)
    await owners.claim("f", TWO, await seen(owners))
    assert not await owners.give_up("f", "one", epoch)
    assert not (await seen(owners)).free


async def test_a_deleted_functions_record_still_counts_its_epochs(owners):
    epoch = await owners.claim("f", ONE, None)
    assert await owners.give_up("f", "one", epoch, for_good=True)
    assert await owners.claim("f", ONE, await seen(owners)) == epoch + 1


async def test_beats_are_told_by_the_stores_clock(owners):
    await owners.beat(ONE)
    now_ms, beats = await owners.beat(replace(TWO, leaving=True))
    assert {beat.member for beat in beats} == {ONE, replace(TWO, leaving=True)}
    assert all(0 <= now_ms - beat.at_ms < 5_000 for beat in beats)
    later_ms, same = await owners.beats()
    assert later_ms >= now_ms
    assert same == beats


async def test_an_earlier_life_does_not_beat_over_a_later_one(owners):
    await owners.beat(replace(ONE, life=7))
    assert await owners.beat(ONE) is None
    _, beats = await owners.beats()
    assert [beat.member.life for beat in beats] == [7]


async def test_who_leaves_is_struck_off_unless_a_later_life_has_come(owners):
    await owners.beat(ONE)
    await owners.leave(replace(ONE, life=2))
    assert len((await owners.beats())[1]) == 1
    await owners.leave(ONE)
    assert (await owners.beats())[1] == []


async def test_lives_are_numbered_upwards(owners):
    first = await owners.new_life()
    assert await owners.new_life() == first + 1
