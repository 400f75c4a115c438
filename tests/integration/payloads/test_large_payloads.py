"""Large asynchronous payloads on a real Valkey and a real MinIO: where they lie, and when they go."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from okiba.adapters.payload_sweep import SETTLED_MS, PayloadSweep
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_queue import RedisQueue
from okiba.adapters.s3_payloads import S3Payloads
from okiba.adapters.s3_store import BUCKET, S3Store
from okiba.core.errors import NotFound, StoreUnavailable
from okiba.core.invocation import Ending, Outcome
from okiba.core.payload import LARGE_BYTES, payload_bytes, payload_key, reference_of
from okiba.ports import Lease, Work
from tests.servers import MinioServer, ValkeyServer, free_port, minio

NOW = time.time_ns() // 1_000_000
LATER = NOW + 2 * SETTLED_MS
LARGE = b'"' + b"x" * 700_000 + b'"'
DONE = Outcome(Ending.SUCCEEDED, b"null")
RAISED = Outcome(Ending.FUNCTION_ERROR, b"{}", "ValueError")


@pytest.fixture(scope="module")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    with minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


def store_of(server: MinioServer) -> S3Store:
    return S3Store(server.endpoint, server.endpoint, server.access_key, server.secret_key, "us-east-1")


@pytest.fixture
def store(object_store: MinioServer) -> S3Store:
    """An object store with nothing in it."""
    store = store_of(object_store)
    store.create_bucket(BUCKET)
    for key, _ in store.stored(""):
        store.delete(key)
    return store


@pytest.fixture
def queue(redis_link: RedisLink, store: S3Store) -> RedisQueue:
    return RedisQueue(redis_link, "default", "gateway", 60_000, S3Payloads(store))


@pytest.fixture
def queue_without_store(redis_link: RedisLink) -> RedisQueue:
    """A queue whose object store is away."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    return RedisQueue(redis_link, "default", "gateway", 60_000, S3Payloads(S3Store(nowhere, nowhere, "a", "b", "r")))


@pytest.fixture
def sweep(valkey: ValkeyServer, store: S3Store) -> Iterator[PayloadSweep]:
    with redis.Redis(unix_socket_path=valkey.socket) as client:
        yield PayloadSweep(client, store, "default")


def work(number: int, payload: bytes = LARGE, source: str = "invoke") -> Work:
    return Work("f", f"event-{number}", f"request-{number}", payload, source, NOW)


def key(number: int) -> str:
    return payload_key("default", "f", f"request-{number}")


async def leased(queue: RedisQueue) -> Lease:
    (lease,) = await queue.lease("f", 1, NOW)
    return lease


async def test_a_large_payload_waits_in_the_object_store_and_is_gone_after_its_works_end(
    queue: RedisQueue, store: S3Store, redis_link: RedisLink
):
    assert await queue.accept([work(1)]) == [True]
    lease = await leased(queue)
    assert await redis_link.call("HSTRLEN", "okiba:{default/f}:work:request-1", "payload") < 100
    assert (await queue.payload(lease.work), payload_bytes(lease.work.payload)) == (LARGE, len(LARGE))
    assert await queue.succeed(lease, DONE)
    assert not store.exists(key(1))


async def test_large_and_small_ones_may_come_together(queue: RedisQueue):
    small = b'"' + b"x" * (LARGE_BYTES - 2) + b'"'
    assert await queue.accept([work(1), work(2, small), work(3, b"{}", "s3")]) == [True, True, True]
    leases = await queue.lease("f", 3, NOW)
    assert [await queue.payload(lease.work) for lease in leases] == [LARGE, small, b"{}"]
    assert [reference_of(lease.work.payload) is None for lease in leases] == [False, True, True]


async def test_a_payload_that_looks_like_a_reference_is_none(queue: RedisQueue, store: S3Store):
    store.put_bytes("code/secret.zip", b"secret")
    await queue.accept([work(1, b"\x006 code/secret.zip")])
    assert await queue.payload((await leased(queue)).work) == b"\x006 code/secret.zip"


async def test_an_attempt_that_is_void_removes_nothing(queue: RedisQueue, store: S3Store):
    await queue.accept([work(1)])
    lease = await leased(queue)
    assert not await queue.succeed(replace(lease, token="0-0/9"), DONE)
    assert store.exists(key(1))


async def test_a_small_payload_asks_the_object_store_nothing(queue_without_store: RedisQueue):
    assert await queue_without_store.accept([work(1, b"{}")]) == [True]
    lease = await leased(queue_without_store)
    assert await queue_without_store.payload(lease.work) == b"{}"
    assert await queue_without_store.succeed(lease, DONE)


async def test_nothing_is_accepted_while_the_object_store_is_away(
    queue_without_store: RedisQueue, redis_link: RedisLink
):
    with pytest.raises(StoreUnavailable):
        await queue_without_store.accept([work(1), work(2, b"{}")])
    assert await redis_link.call("KEYS", "*") == []


async def test_an_object_store_that_does_not_answer_is_away_within_seconds(tmp_path: Path, redis_link: RedisLink):
    with minio(tmp_path) as server:
        queue = RedisQueue(redis_link, "default", "gateway", 60_000, S3Payloads(store_of(server)))
        server.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await queue.accept([work(1)])
        assert time.monotonic() - begun < 8


async def test_a_payload_that_somebody_removed_is_told_as_missing(queue: RedisQueue, store: S3Store):
    await queue.accept([work(1)])
    store.delete(key(1))
    with pytest.raises(NotFound, match="payloads/default/f/request-1"):
        await queue.payload((await leased(queue)).work)


async def test_work_that_succeeds_while_the_object_store_is_away_has_its_end(
    queue: RedisQueue, queue_without_store: RedisQueue, store: S3Store, sweep: PayloadSweep
):
    await queue.accept([work(1)])
    assert await queue_without_store.succeed(await leased(queue_without_store), DONE)
    assert store.exists(key(1))
    assert sweep.run(LATER) == 1
    assert not store.exists(key(1))


async def test_a_dead_letter_keeps_its_payload_for_as_long_as_it_is_kept(
    queue: RedisQueue, store: S3Store, sweep: PayloadSweep, redis_link: RedisLink
):
    await queue.accept([work(1)])
    assert await queue.bury(await leased(queue), RAISED, "RetriesExhausted")
    assert sweep.run(LATER) == 0
    (letter,) = await queue.dead_letters("f", "", 10)
    assert await queue.payload(letter.work) == LARGE
    await redis_link.call("XTRIM", "okiba:{default/f}:dead", "MAXLEN", 0)
    assert sweep.run(LATER) == 1
    assert not store.exists(key(1))


async def test_dead_letters_of_a_function_that_is_gone_keep_theirs_too(queue: RedisQueue, sweep: PayloadSweep):
    await queue.accept([work(1)])
    assert await queue.forget("f") == 1
    assert sweep.run(LATER) == 0


async def test_the_sweep_leaves_open_work_alone_and_what_may_be_on_its_way(
    queue: RedisQueue, store: S3Store, sweep: PayloadSweep
):
    await queue.accept([work(1)])
    store.put_bytes(key(2), LARGE)  # of a gateway that was killed before it could accept the work
    assert sweep.run(NOW + SETTLED_MS // 2) == 0
    assert sweep.run(LATER) == 1
    assert (store.exists(key(1)), store.exists(key(2))) == (True, False)


async def test_many_dead_letters_are_all_read(queue: RedisQueue, sweep: PayloadSweep, redis_link: RedisLink):
    await queue.accept([work(number, b"{}") for number in range(1, 250)])
    await queue.accept([work(250)])
    assert await queue.forget("f") == 250
    assert await redis_link.call("XLEN", "okiba:{default/f}:dead") == 250
    assert sweep.run(LATER) == 0


def test_a_sweep_of_nothing_does_nothing(sweep: PayloadSweep):
    assert sweep.run(LATER) == 0
