"""What every Inbox does."""

from __future__ import annotations

import asyncio

import pytest

from okiba.adapters.redis_inbox import RedisInbox
from okiba.adapters.redis_link import RedisLink
from okiba.ports import Inbox
from tests.fakes.inbox import MemoryInbox


@pytest.fixture
def inbox(link: RedisLink | None) -> Inbox:
    return RedisInbox(link) if link else MemoryInbox()


async def test_a_notification_is_read_as_it_was_stored(inbox):
    await inbox.store("direct", b"\x00\xff{not json", 1234)

    (notification,) = await inbox.read(10, 0)

    assert (notification.lane, notification.received_ms, notification.body) == ("direct", 1234, b"\x00\xff{not json")


async def test_an_empty_inbox_is_read_without_waiting(inbox):
    assert await inbox.read(10, 0) == []


async def test_reading_waits_for_the_first_notification(inbox):
    reading = asyncio.ensure_future(inbox.read(10, 10_000))
    await asyncio.wait([reading], timeout=0.05)
    await inbox.store("queued", b"{}", 1)

    async with asyncio.timeout(5):
        assert [notification.lane for notification in await reading] == ["queued"]


async def test_waiting_ends(inbox):
    async with asyncio.timeout(5):
        assert await inbox.read(10, 20) == []


async def test_notifications_are_read_in_the_order_stored(inbox):
    for number in range(5):
        await inbox.store("direct", b"%d" % number, 1)

    first = await inbox.read(3, 0)
    await inbox.settle([notification.entry for notification in first])
    second = await inbox.read(3, 0)

    assert [notification.body for notification in first + second] == [b"0", b"1", b"2", b"3", b"4"]


async def test_what_was_not_settled_is_read_again_before_anything_new(inbox):
    await inbox.store("direct", b"1", 1)
    await inbox.store("direct", b"2", 1)
    first = await inbox.read(10, 0)
    await inbox.settle([first[0].entry])
    await inbox.store("direct", b"3", 1)

    again = await inbox.read(10, 0)
    await inbox.settle([again[0].entry])

    assert [notification.body for notification in again] == [b"2"]
    assert [notification.body for notification in await inbox.read(10, 0)] == [b"3"]


async def test_settling_twice_or_nothing_is_harmless(inbox):
    await inbox.store("direct", b"1", 1)
    (notification,) = await inbox.read(10, 0)

    for entries in ([], [notification.entry], [notification.entry]):
        await inbox.settle(entries)

    assert await inbox.read(10, 0) == []


async def test_a_later_life_reads_what_an_earlier_one_had_not_settled(link):
    if link is None:
        pytest.skip("the twin has one life")
    await RedisInbox(link).store("direct", b"1", 1)
    await RedisInbox(link).read(10, 0)

    (again,) = await RedisInbox(link).read(10, 0)

    assert again.body == b"1"


async def test_what_a_dead_reader_had_not_settled_is_read_by_another(link):
    if link is None:
        pytest.skip("the twin has one reader")
    dead = RedisInbox(link, "dead")
    for number in range(5):
        await dead.store("direct", b"%d" % number, 1)
    settled = (await dead.read(5, 0))[0]
    await dead.settle([settled.entry])

    heir = RedisInbox(link, "heir", abandoned_ms=0)
    taken = [notification.body for notification in await heir.read(10, 0)]

    assert taken == [b"1", b"2", b"3", b"4"]


async def test_what_a_living_reader_has_in_hand_is_left_to_it(link):
    if link is None:
        pytest.skip("the twin has one reader")
    await RedisInbox(link, "one").store("direct", b"1", 1)
    await RedisInbox(link, "one").read(10, 0)

    assert await RedisInbox(link, "two").read(10, 0) == []


async def test_the_quarantine_keeps_the_beginning_and_the_reason(inbox):
    await inbox.store("direct", b"x" * 100_000, 7)
    (notification,) = await inbox.read(1, 0)

    await inbox.quarantine(notification, "not JSON: Ü")

    quarantine = await inbox.quarantined(10)
    assert quarantine.total == 1
    (item,) = quarantine.newest
    assert (item.lane, item.received_ms, item.reason, item.size) == ("direct", 7, "not JSON: Ü", 100_000)
    assert item.body == b"x" * 65_536


async def test_the_quarantine_is_bounded_and_counts_all(inbox):
    await inbox.store("direct", b"x", 7)
    (notification,) = await inbox.read(1, 0)
    assert (await inbox.quarantined(10)).total == 0

    for number in range(1_003):
        await inbox.quarantine(notification, str(number))

    quarantine = await inbox.quarantined(2_000)
    assert quarantine.total == 1_003
    assert len(quarantine.newest) == 1_000
    assert quarantine.newest[0].reason == "1002"
