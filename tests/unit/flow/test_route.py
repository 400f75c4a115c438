"""Hop 2: whatever comes in, in whatever order and however often, each event is work once."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable, Sequence
from urllib.parse import quote_plus

import pytest

from okiba.core.binding import Binding
from okiba.core.errors import StoreUnavailable
from okiba.core.function import Function
from okiba.flow.route import BATCH, Router
from okiba.ports import Lease, Work
from tests.fakes.inbox import MemoryInbox
from tests.fakes.queue import MemoryQueue

NOW = 1_764_000_000_000


def function(name: str, *bindings: Binding) -> Function:
    return Function(name, "python3.11", "app.handler", "00", 1, "r1", 0, "AKIA", bindings=bindings)


THUMBNAILS = function(
    "thumbnails",
    Binding("Photos", "photos", ("s3:ObjectCreated:*",), suffix=".jpg"),
    Binding("More", "photos", ("s3:ObjectCreated:*",), prefix="more/"),
)
INDEX = function("index", Binding("All", "photos", ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")))
ARCHIVE = function("archive", Binding("Old", "archive", ("s3:ObjectCreated:*",)))


def notification(
    key: str = "a.jpg", sequencer: str = "1", name: str = "s3:ObjectCreated:Put", bucket: str = "photos"
) -> bytes:
    described = {"key": quote_plus(key), "size": 1, "eTag": "e", "sequencer": sequencer}
    record = {
        "eventTime": "2026-11-22T16:49:00.123Z",
        "eventName": name,
        "s3": {"bucket": {"name": bucket}, "object": described},
    }
    return json.dumps({"EventName": name, "Key": f"{bucket}/{key}", "Records": [record]}).encode()


class Route:
    """A router with all that it meets."""

    def __init__(self, *functions: Function) -> None:
        self.inbox = MemoryInbox()
        self.queue = MemoryQueue(clock=lambda: NOW)
        self.functions = functions
        self.woken: list[str] = []
        self.pauses: list[float] = []
        self.router = Router(
            self.inbox, self.queue, self._bound, self.woken.append, lambda: NOW + 7, "eu-central-1", self._pause
        )

    async def tell(self, *bodies: bytes, lane: str = "direct") -> None:
        for body in bodies:
            await self.inbox.store(lane, body, NOW)

    async def all(self) -> None:
        while await self.router.step(0):
            pass

    async def leased(self, name: str = "thumbnails") -> list[Lease]:
        return await self.queue.lease(name, 10_000, NOW)

    def _bound(self, bucket: str) -> Iterable[Function]:
        return [known for known in self.functions if any(binding.bucket == bucket for binding in known.bindings)]

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def route() -> Route:
    return Route(THUMBNAILS, INDEX, ARCHIVE)


async def test_an_event_becomes_work_for_each_function_that_it_concerns(route):
    await route.tell(notification("a.jpg"))
    await route.all()

    (thumbnails,) = await route.leased("thumbnails")
    (index,) = await route.leased("index")
    assert await route.leased("archive") == []
    assert sorted(route.woken) == ["index", "thumbnails"]
    assert thumbnails.work.event_id == index.work.event_id
    assert thumbnails.work.request_id != index.work.request_id
    assert (thumbnails.work.source, thumbnails.work.accepted_ms) == ("s3", NOW)


async def test_a_handler_gets_the_record_with_its_bindings_id_and_a_region(route):
    await route.tell(notification("a.jpg"))
    await route.all()

    (lease,) = await route.leased()
    (record,) = json.loads(lease.work.payload)["Records"]
    assert record["s3"]["configurationId"] == "Photos"
    assert (record["eventSource"], record["awsRegion"], record["eventName"]) == (
        "aws:s3",
        "eu-central-1",
        "ObjectCreated:Put",
    )


async def test_two_bindings_of_one_function_that_both_match_make_one_piece_of_work(route):
    await route.tell(notification("more/a.jpg"))
    await route.all()

    (lease,) = await route.leased()
    assert json.loads(lease.work.payload)["Records"][0]["s3"]["configurationId"] == "Photos"


async def test_an_event_that_concerns_nobody_is_settled_and_counted(route):
    await route.tell(notification(bucket="unknown"), notification("a.png", name="s3:ObjectTagging:Put"))
    await route.all()

    assert route.router.counts.unbound == 2
    assert route.woken == []
    assert (await route.inbox.quarantined(10)).total == 0


async def test_both_lanes_tell_an_event_and_it_is_work_once(route):
    await route.tell(notification(), lane="direct")
    await route.tell(notification(), lane="queued")
    await route.all()
    await route.tell(notification(), lane="queued")
    await route.all()

    assert len(await route.leased()) == 1
    assert (route.router.counts.accepted, route.router.counts.duplicates) == (2, 4)


GARBAGE = [
    b"",
    b"{",
    b"null",
    b'{"Records":1}',
    b'{"Records":[{}]}',
    b"[" * 50_000,
    b'{"Records":[NaN]}',
    b'{"Records":[' + b"9" * 5_000 + b"]}",
    notification("x" * 65_536),
    notification("\x00" * 1_025),
    json.dumps({"Records": [{"eventName": "\ud800"}]}).encode(),
    notification(name="; rm -rf /"),
]


@pytest.mark.parametrize("seed", range(10))
async def test_each_event_is_work_once_among_duplicates_garbage_and_disorder(route, seed):
    chance = random.Random(seed)
    events = [notification(f"{number}.jpg", f"{turn:X}") for number in range(40) for turn in range(3)]
    bodies = [*events, *events, *chance.choices(events, k=100), *GARBAGE, *GARBAGE]
    chance.shuffle(bodies)
    for body in bodies:
        await route.tell(body, lane=chance.choice(["direct", "queued"]))
        if chance.random() < 0.05:
            await route.router.step(0)
    await route.all()

    leases = await route.leased()
    assert len(leases) == len(events) == len({lease.work.event_id for lease in leases})
    assert (await route.inbox.quarantined(10)).total == 2 * len(GARBAGE) == route.router.counts.quarantined


async def test_garbage_never_blocks_what_follows_and_is_kept_with_a_reason(route):
    await route.tell(b"garbage", notification())
    await route.all()

    assert len(await route.leased()) == 1
    (kept,) = (await route.inbox.quarantined(10)).newest
    assert kept.body == b"garbage"
    assert "parse" in kept.reason
    assert await route.inbox.read(10, 0) == []


async def test_the_good_records_of_a_notification_are_routed_though_a_bad_one_is_among_them(route):
    good = json.loads(notification())["Records"][0]
    await route.tell(json.dumps({"Records": [*[{"eventName": number} for number in range(5)], good]}).encode())
    await route.all()

    assert len(await route.leased()) == 1
    (kept,) = (await route.inbox.quarantined(10)).newest
    assert kept.reason.startswith("Records[0]: s3.bucket.name: missing; ")
    assert kept.reason.endswith("and 2 more")


async def test_a_test_event_is_settled_and_nothing_else(route):
    await route.tell(b'{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"photos"}')
    await route.all()

    assert (await route.inbox.quarantined(10)).total == 0
    assert route.router.counts.notifications == 1


async def test_a_notification_that_breaks_its_reader_is_set_aside(route):
    def broken(bucket: str) -> Iterable[Function]:
        if bucket == "bad":
            raise KeyError(bucket)
        return [THUMBNAILS]

    router = Router(route.inbox, route.queue, broken, route.woken.append, lambda: NOW)
    await route.tell(notification(bucket="bad"), notification())
    await router.step(0)

    assert len(await route.leased()) == 1
    assert "KeyError" in (await route.inbox.quarantined(1)).newest[0].reason


async def test_more_than_a_batch_is_routed_batch_by_batch(route):
    await route.tell(*(notification(f"{number}.jpg") for number in range(BATCH + 1)))

    assert await route.router.step(0) == BATCH
    assert await route.router.step(0) == 1
    assert await route.router.step(0) == 0
    assert route.router.counts.lag_ms == 7


# --- the store goes away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["queue", "inbox"])
async def test_nothing_is_lost_or_doubled_when_the_store_goes_away(route, part):
    await route.tell(notification("1.jpg"), b"garbage")
    getattr(route, part).away = True
    with pytest.raises(StoreUnavailable):
        await route.router.step(0)
    getattr(route, part).away = False
    await route.tell(notification("2.jpg"))
    await route.all()

    assert [len(lease.work.payload) > 0 for lease in await route.leased()] == [True, True]
    assert (await route.inbox.quarantined(10)).total == 1


class Forgetful(MemoryQueue):
    """Takes work, once, and does not say so."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: NOW)
        self.fails = 1

    async def accept(self, works: Sequence[Work]) -> list[bool]:
        taken = await super().accept(works)
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable("the answer was lost")
        return taken


async def test_work_whose_acceptance_was_never_answered_is_woken_when_it_turns_out_a_duplicate(route):
    route.queue = Forgetful()
    router = Router(route.inbox, route.queue, route._bound, route.woken.append, lambda: NOW)
    await route.tell(notification())
    with pytest.raises(StoreUnavailable):
        await router.step(0)
    assert route.woken == []

    await router.step(0)

    assert sorted(route.woken) == ["index", "thumbnails"]
    assert router.counts.duplicates == 2
    assert len(await route.leased()) == 1


async def test_the_loop_waits_longer_and_longer_while_the_store_is_away_and_then_goes_on(route):
    route.inbox.away = True
    running = asyncio.ensure_future(route.router.run())
    async with asyncio.timeout(5):
        while len(route.pauses) < 8:
            await asyncio.sleep(0)
        route.inbox.away = False
        await route.tell(notification())
        while not route.woken:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert route.pauses[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


async def test_the_loop_goes_on_whatever_it_is_told(route):
    running = asyncio.ensure_future(route.router.run())
    await route.tell(*GARBAGE, notification())
    async with asyncio.timeout(10):
        while not route.woken:
            await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])
