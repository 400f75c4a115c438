"""The third lane: what a bucket holds and nobody told of."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from okiba.core.binding import Binding
from okiba.core.errors import NotFound, StoreUnavailable
from okiba.core.event import event_id, read_notification
from okiba.core.function import Function, State
from okiba.core.listing import StoredObject, event_of, told
from okiba.core.sweeping import Ask, Progress
from okiba.flow.repair import Repair
from okiba.flow.route import Router
from okiba.flow.sweep import MARGIN_MS, SWEEP, Pass, Sweeper
from tests.fakes.inbox import MemoryInbox
from tests.fakes.queue import MemoryQueue

NOW = 1_795_000_000_000
HOUR = 3_600_000
WEEK = 7 * 24 * HOUR
CREATED = ("s3:ObjectCreated:*",)


def function(name: str = "thumbnails", prefix: str = "", since_ms: int = NOW - HOUR, events=CREATED) -> Function:
    binding = Binding("Uploaded", "photos", events, prefix, "", since_ms)
    described = Function(name, "python3.11", "app.handler", "0" * 64, 1, "r", NOW, "OKIA")
    return replace(described, bindings=(binding,), state=State.ACTIVE)


def stored(key: str, ago_ms: int = 60_000, **more: object) -> StoredObject:
    return StoredObject(key, NOW - ago_ms, "9a0364b9e99bb480dd25e1f0284c8555", 5, **more)


class Buckets:
    """A listing: by bucket, its pages. `away` raises once behind so many pages."""

    def __init__(self, **buckets: list[list[StoredObject]]) -> None:
        self.buckets = buckets
        self.away = -1
        self.prefixes: list[str] = []

    async def pages(self, bucket, prefix="", after=""):
        if bucket not in self.buckets:
            raise NotFound(f"bucket {bucket} does not exist")
        self.prefixes.append(prefix)
        for number, page in enumerate(self.buckets[bucket]):
            if number == self.away:
                self.away = -1
                raise StoreUnavailable("the store is away")
            if rest := [item for item in page if item.key > after]:
                yield rest


class Site:
    """A sweeper, and the router behind it."""

    def __init__(self, *functions: Function, **buckets: list[list[StoredObject]]) -> None:
        self.functions = list(functions)
        self.listing = Buckets(**buckets)
        self.queue, self.inbox = MemoryQueue(lambda: NOW), MemoryInbox()
        self.sweeper = Sweeper(self.registry, self.listing, self.queue, self.inbox, WEEK, lambda: NOW)
        self.router = Router(self.inbox, self.queue, lambda _: self.functions, lambda _: None, lambda: NOW)
        self.turns: list[tuple[int, int, str]] = []

    async def registry(self) -> list[Function]:
        return self.functions

    async def swept(self, swept: Pass | None = None) -> Pass:
        swept = swept or Pass("photos")
        await self.sweeper.run(swept, self._turn, _no_rest)
        return swept

    async def _turn(self, swept: Pass, _found: int) -> None:
        self.turns.append((swept.looked, swept.found, swept.after))

    async def routed(self) -> list[tuple[str, str, str]]:
        """(function, key, source) of all work there is, once everything told is routed."""
        while await self.router.step(0):
            pass
        leases = [lease for each in self.functions for lease in await self.queue.lease(each.name, 99, NOW)]
        keys = [read_notification(lease.work.payload).events[0].key for lease in leases]
        return [(lease.work.function, key, lease.work.source) for lease, key in zip(leases, keys, strict=True)]


async def _no_rest(_worked_s: float) -> None:
    pass


async def test_what_nobody_told_of_is_found_and_handled_as_an_event():
    site = Site(function(), photos=[[stored("a.jpg"), stored("b c+ü.jpg")]])

    swept = await site.swept()

    assert (swept.looked, swept.found) == (2, 2)
    assert await site.routed() == [("thumbnails", "a.jpg", SWEEP), ("thumbnails", "b c+ü.jpg", SWEEP)]
    assert site.router.counts.repaired == 2


async def test_what_was_told_is_known_and_not_told_again():
    site = Site(function(), photos=[[stored("a.jpg"), stored("b.jpg")]])
    await site.swept()
    await site.routed()

    assert (await site.swept()).found == 0
    assert await site.routed() == []


async def test_a_store_s_own_notification_and_the_listing_are_one_event():
    site = Site(function(), photos=[[stored("a.jpg")]])
    announced = replace(event_of("photos", stored("a.jpg")), name="ObjectCreated:Copy", sequencer="")
    nanoseconds = f"{(NOW - 60_000) * 1_000_000 + 123_456:016X}"  # the listing knows milliseconds
    await site.inbox.store("direct", told([replace(announced, sequencer=nanoseconds)]), NOW)
    await site.routed()

    assert (await site.swept()).found == 0


@pytest.mark.parametrize(
    ("ago_ms", "since_ms", "counts"),
    [
        (60_000, NOW - HOUR, True),
        (2 * HOUR, NOW - HOUR, False),
        (60_000, 0, False),  # bound by an earlier release, nobody knows when
        (WEEK - MARGIN_MS, NOW - 2 * WEEK, True),
        (WEEK - MARGIN_MS + 1, NOW - 2 * WEEK, False),  # the ledger may have forgotten it
    ],
)
async def test_an_object_counts_if_it_is_younger_than_its_binding_and_than_the_ledgers_memory(ago_ms, since_ms, counts):
    site = Site(function(since_ms=since_ms), photos=[[stored("a.jpg", ago_ms)]])

    assert (await site.swept()).found == counts


async def test_what_was_there_before_is_found_when_that_is_asked_for():
    site = Site(function(), photos=[[stored("old.jpg", 9 * WEEK)]])

    assert (await site.swept(Pass("photos", existing=True))).found == 1
    assert await site.routed() == [("thumbnails", "old.jpg", SWEEP)]


async def test_a_younger_binding_is_not_told_of_what_an_older_one_missed():
    site = Site(function(), function("newer", since_ms=NOW), photos=[[stored("a.jpg")]])

    assert (await site.swept()).found == 1
    assert await site.routed() == [("thumbnails", "a.jpg", SWEEP)]


async def test_only_what_a_binding_asks_for_is_looked_up():
    site = Site(function(prefix="in/"), photos=[[stored("in/a.jpg"), stored("out/b.jpg")]])

    assert (await site.swept()).found == 1
    assert site.listing.prefixes == ["in/"]


async def test_versions_and_delete_markers_are_events_of_their_own():
    page = [
        stored("a.jpg", version_id="v1"),
        stored("a.jpg", version_id="v2"),
        stored("a.jpg", version_id="v3", deleted=True),
    ]
    site = Site(function(events=("s3:ObjectCreated:*", "s3:ObjectRemoved:*")), photos=[page])

    assert (await site.swept()).found == 3
    assert len({event_id(event_of("photos", item)) for item in page}) == 3


async def test_a_pass_goes_on_with_all_versions_of_a_key_whose_versions_were_cut_off():
    versions = [stored("b.jpg", version_id=f"v{number}") for number in range(3)]
    site = Site(function(), photos=[[stored("a.jpg", version_id="v"), versions[0]], versions[1:]])
    site.listing.away = 1
    swept = Pass("photos")
    with pytest.raises(StoreUnavailable):
        await site.swept(swept)
    assert swept.after == "a.jpg"

    await site.swept(swept)

    assert len(await site.routed()) == 4


async def test_a_pass_that_was_cut_off_goes_on_behind_the_last_page_that_was_told():
    site = Site(function(), photos=[[stored("a.jpg")], [stored("b.jpg")]])
    site.listing.away = 1
    swept = Pass("photos")
    with pytest.raises(StoreUnavailable):
        await site.swept(swept)
    assert site.turns == [(1, 1, "a.jpg")]

    await site.swept(swept)

    assert site.turns == [(1, 1, "a.jpg"), (2, 2, "b.jpg")]
    assert len(await site.routed()) == 2


# --- when -------------------------------------------------------------------------------------------------------------


class Book:
    """Asks and progress, in memory."""

    def __init__(self) -> None:
        self.asks: dict[str, Ask] = {}
        self.progress: list[tuple[str, Progress]] = []
        self.ever: Counter[str] = Counter()
        self.ask_at = ("", "", -1)

    async def asked(self):
        return dict(self.asks)

    async def answered(self, bucket, ask):
        if self.asks.get(bucket) == ask:
            del self.asks[bucket]

    async def tell(self, bucket, progress):
        self.progress.append((bucket, progress))
        if (bucket, progress.why, progress.looked) == self.ask_at:
            self.asks = {"other": Ask(existing=False, at_ms=NOW)}

    async def found(self, bucket, count):
        self.ever[bucket] += count

    def done(self) -> list[tuple[str, str]]:
        return [(bucket, progress.why) for bucket, progress in self.progress if progress.state == "done"]


class Time:
    """A clock that moves when somebody rests; the object store's one server has run since `started_s`."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.started_s = 0.0
        self.away = False

    async def uptimes(self):
        if self.away:
            raise StoreUnavailable("away")
        return {"minio:9000": float(int(self.now_s - self.started_s))}


def repairing(site: Site, time: Time, every_s: float = 0.0, resting_s: float = 0.0) -> tuple[Repair, Book]:
    """Rests between pages take so long, whatever they should."""
    book = Book()

    async def rest(_seconds: float) -> None:
        time.now_s += resting_s

    return Repair(site.sweeper, book, time.uptimes, every_s, lambda: NOW, lambda: time.now_s, rest), book


async def settled(repair: Repair, book: Book, time: Time) -> None:
    """Its own start is over."""
    await steps(repair, time, 40)
    book.progress.clear()


async def steps(repair: Repair, time: Time, seconds: float) -> None:
    until_s = time.now_s + seconds
    while time.now_s < until_s:
        await repair.turn()
        time.now_s += 2.0


async def test_after_its_own_start_everything_is_swept():
    site = Site(function(), photos=[[stored("a.jpg")]])
    repair, book = repairing(site, (time := Time()))

    await steps(repair, time, 60)

    assert book.done() == [("photos", "restart")] * 3
    assert book.ever == {"photos": 3}, "told thrice, for nothing was routed between"
    assert len(await site.routed()) == 1


async def test_a_missing_bucket_keeps_no_other_from_being_swept():
    missing = replace(function("first"), bindings=(Binding("A", "missing", CREATED, since_ms=NOW - HOUR),))
    site = Site(missing, function(), photos=[[stored("a.jpg")]])
    repair, book = repairing(site, (time := Time()))

    await steps(repair, time, 60)

    assert book.done() == [("photos", "restart")] * 3
    assert [bucket for bucket, progress in book.progress if progress.state == "failed"] == ["missing"] * 3


async def test_a_store_that_runs_on_is_left_alone():
    repair, book = repairing(Site(function(), photos=[[stored("a.jpg")]]), (time := Time()))
    await settled(repair, book, time)

    await steps(repair, time, 600)

    assert book.done() == []


@pytest.mark.parametrize("seen_away", [True, False])
async def test_a_store_that_started_anew_is_swept_at_once_and_twice_more(seen_away):
    site = Site(function(), photos=[[stored("a.jpg")]])
    repair, book = repairing(site, (time := Time()))
    await settled(repair, book, time)
    if seen_away:
        time.away = True
        await steps(repair, time, 6)
        time.away = False
    time.started_s = time.now_s - 1

    await steps(repair, time, 60)

    assert book.done() == [("photos", "restart")] * 3
    assert len(await site.routed()) == 1


async def test_what_is_asked_for_is_answered_once():
    repair, book = repairing(Site(function(), photos=[[]]), (time := Time()))
    await settled(repair, book, time)
    book.asks = {"photos": Ask(existing=True, at_ms=NOW), "missing": Ask(existing=False, at_ms=NOW)}

    await steps(repair, time, 10)

    assert book.asks == {}
    assert [(bucket, told.state) for bucket, told in book.progress] == [("photos", "done"), ("missing", "failed")]


async def test_a_scheduled_pass_stands_back_for_what_is_asked_and_goes_on_where_it_was():
    pages = [[stored(f"{number}.jpg")] for number in range(100, 160)]
    site = Site(function(), photos=pages, other=[[stored("x")]])
    repair, book = repairing(site, (time := Time()), every_s=100, resting_s=1.0)
    await settled(repair, book, time)
    book.ask_at = ("photos", "schedule", 20)

    await steps(repair, time, 150)

    assert book.done()[:2] == [("other", "asked"), ("photos", "schedule")]
    looked = [progress.looked for bucket, progress in book.progress if bucket == "photos"]
    assert looked[:61] == [*range(1, 61), 60], "each page once, and the end"


async def test_no_absence_ends_it():
    site = Site(function(), photos=[[stored("a.jpg")]])
    repair, book = repairing(site, (time := Time()))
    time.away = True
    await steps(repair, time, 100)
    assert book.done() == []
    time.away = False

    await steps(repair, time, 60)

    assert book.done() == [("photos", "restart")] * 3
