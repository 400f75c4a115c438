"""What every Logs does."""

from __future__ import annotations

import asyncio

import pytest

from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_logs import RedisLogs
from okiba.core.errors import InvalidParameter
from okiba.ports import Logs
from tests.fakes.logs import MemoryLogs

MAX_BYTES = 10_000


@pytest.fixture
def logs(link: RedisLink | None) -> Logs:
    return RedisLogs(link, "default", MAX_BYTES) if link else MemoryLogs(MAX_BYTES)


async def test_output_is_read_as_it_was_appended(logs):
    await logs.append("thumbnails", "slot-1", 0, 1234, b"\x00START\xff\n", 7)

    (chunk,) = await logs.read("thumbnails", "", 0)

    assert (chunk.slot, chunk.time_ms, chunk.body, chunk.dropped) == ("slot-1", 1234, b"\x00START\xff\n", 7)


async def test_a_function_without_output_has_none(logs):
    assert await logs.read("thumbnails", "", 0) == []


async def test_output_is_read_on_from_a_chunk(logs):
    await logs.append("thumbnails", "slot-1", 0, 1, b"one", 0)
    await logs.append("thumbnails", "slot-1", 3, 2, b"two", 0)
    first, second = await logs.read("thumbnails", "", 0)

    assert await logs.read("thumbnails", first.id, 0) == [second]
    assert await logs.read("thumbnails", second.id, 0) == []


async def test_reading_waits_for_new_output(logs):
    await logs.append("thumbnails", "slot-1", 0, 1, b"one", 0)
    (first,) = await logs.read("thumbnails", "", 0)
    reading = asyncio.ensure_future(logs.read("thumbnails", first.id, 10_000))
    await asyncio.wait([reading], timeout=0.05)
    await logs.append("thumbnails", "slot-1", 3, 2, b"two", 0)

    async with asyncio.timeout(5):
        assert [chunk.body for chunk in await reading] == [b"two"]


async def test_waiting_for_output_ends(logs):
    async with asyncio.timeout(5):
        assert await logs.read("thumbnails", "", 20) == []


async def test_output_pulled_twice_is_kept_once(logs):
    await logs.append("thumbnails", "slot-1", 0, 1, b"one", 0)
    await logs.append("thumbnails", "slot-1", 0, 1, b"one", 0)
    await logs.append("thumbnails", "slot-1", 0, 1, b"onetwo", 0)
    await logs.append("thumbnails", "slot-2", 0, 1, b"one", 0)

    chunks = [(chunk.slot, chunk.body) for chunk in await logs.read("thumbnails", "", 0)]

    assert chunks == [("slot-1", b"one"), ("slot-1", b"two"), ("slot-2", b"one")]


@pytest.mark.parametrize("size", [1, 500, MAX_BYTES - 1])
async def test_output_is_bounded_by_bytes_and_the_newest_stays(logs, size):
    count = 3 * MAX_BYTES // size if size > 1 else 300
    for number in range(count):
        await logs.append("thumbnails", f"slot-{number % 3}", number * size, number, b"x" * size, 0)

    chunks = await logs.read("thumbnails", "", 0)

    assert 0 < sum(len(chunk.body) + 96 for chunk in chunks) <= MAX_BYTES + 96
    assert chunks[-1].time_ms == count - 1


async def test_of_a_chunk_larger_than_the_bound_the_end_stays_and_the_rest_counts_as_dropped(logs):
    await logs.append("thumbnails", "slot-1", 0, 1, b"a" * MAX_BYTES + b"end", 5)

    (chunk,) = await logs.read("thumbnails", "", 0)

    assert chunk.body.endswith(b"end")
    assert len(chunk.body) == MAX_BYTES
    assert chunk.dropped == 8


async def test_output_of_a_forgotten_function_stays_and_goes_on(logs):
    await logs.append("thumbnails", "slot-1", 0, 1, b"one", 0)
    await logs.forget("thumbnails")
    await logs.append("thumbnails", "slot-2", 0, 1, b"two", 0)

    assert [chunk.body for chunk in await logs.read("thumbnails", "", 0)] == [b"one", b"two"]


async def test_a_chunk_id_that_is_none_is_refused_as_the_callers_mistake(link):
    if link is None:
        pytest.skip("the twin is never asked by strangers")
    with pytest.raises(InvalidParameter):
        await RedisLogs(link, "default", MAX_BYTES).read("thumbnails", "$", 0)
