"""The link against a real Valkey: replies find their callers, whatever befalls either side."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from okiba.adapters.redis_address import Address
from okiba.adapters.redis_connection import RedisRefused
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_logs import MAX_READERS, RedisLogs
from okiba.adapters.redis_server import MAX_IDLE, ServerLink
from okiba.core.errors import StoreUnavailable, Throttled
from tests.deadline import soon
from tests.servers import ValkeyServer
from tests.servers import valkey as start_valkey


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that a test may stop."""
    with start_valkey(tmp_path) as server:
        yield server


async def failure(call: Awaitable[object]) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as raised:
        await call
    return raised.value


# --- replies ----------------------------------------------------------------------------------------------------------


async def test_every_kind_of_reply_arrives(redis_link):
    assert await redis_link.call("SET", "k", b"\x00\xff") == b"OK"
    assert await redis_link.call("GET", "k") == b"\x00\xff"
    assert await redis_link.call("GET", "none") is None
    assert await redis_link.call("INCRBY", "n", 7) == 7
    assert await redis_link.call("MGET", "k", "none", "n") == [b"\x00\xff", None, b"7"]


async def test_a_large_value_comes_back_whole(redis_link):
    value = random.Random(1).randbytes(5_000_000)
    await redis_link.call("SET", "k", value)

    assert await redis_link.call("GET", "k") == value


async def test_many_callers_each_get_their_own_reply(redis_link):
    async def caller(number: int) -> bool:
        replies = [await redis_link.call("ECHO", f"{number}-{turn}") for turn in range(50)]
        return replies == [f"{number}-{turn}".encode() for turn in range(50)]

    assert all(await asyncio.gather(*(caller(number) for number in range(50))))


async def test_without_the_replica_that_changes_need_reads_are_answered_all_the_same(own_valkey):
    link = await RedisLink.open(f"{own_valkey.url}?replicas=1", timeout_ms=2000)
    refused: list[str] = []

    async def change(number: int) -> None:
        try:
            await link.call("SET", "k", number)
        except StoreUnavailable as error:
            refused.append(str(error))

    async with asyncio.timeout(30):
        calls: list[Awaitable[object]] = []
        for number in range(150):
            calls += [asyncio.ensure_future(change(number)), link.call("GET", "k")]
            await asyncio.sleep(0.02)
        await asyncio.gather(*calls)
    await link.close()
    assert len(refused) == 150
    assert set(refused) == {"0 of 1 replicas have what Redis was told"}


@pytest.mark.parametrize("seed", range(5))
async def test_a_cancelled_caller_never_leaves_its_reply_to_another(redis_link, seed):
    chance = random.Random(seed)

    async def caller(number: int) -> None:
        for turn in range(20):
            text = f"{number}-{turn}"
            assert await redis_link.call("ECHO", text) == text.encode()
            assert await redis_link.script("queue_depths", [f"okiba:{{t/{text}}}"], []) == [0, 0]

    callers = [asyncio.ensure_future(caller(number)) for number in range(60)]
    while any(not task.done() for task in callers):
        chance.choice(callers).cancel()
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
    ended = await asyncio.gather(*callers, return_exceptions=True)

    assert {type(end) for end in ended} <= {type(None), asyncio.CancelledError}
    assert await redis_link.call("ECHO", "last") == b"last"


async def test_a_cancelled_wait_does_not_disturb_the_next_one(redis_link):
    waiting = asyncio.ensure_future(redis_link.wait("BLPOP", "list", 5, timeout_ms=5_000))
    await asyncio.wait([waiting], timeout=0.05)
    waiting.cancel()
    await asyncio.wait([waiting])
    await redis_link.call("RPUSH", "list", "value")

    assert await redis_link.wait("BLPOP", "list", 5, timeout_ms=5_000) == [b"list", b"value"]


async def test_waiting_keeps_nobody_else_waiting(redis_link):
    waiting = asyncio.ensure_future(redis_link.wait("BLPOP", "list", 5, timeout_ms=5_000))
    async with asyncio.timeout(2):
        await redis_link.call("RPUSH", "list", "value")
        assert await waiting == [b"list", b"value"]


async def clients(link):
    """How many connections the server has; others than the link's stay open through a session."""
    return int((await link.call("INFO", "clients")).split(b"connected_clients:")[1].split(b"\r")[0])


async def test_connections_of_those_who_waited_are_kept_but_not_all(redis_link):
    before = await clients(redis_link)
    waits = [asyncio.ensure_future(redis_link.wait("BLPOP", "l", 5, timeout_ms=5_000)) for _ in range(2 * MAX_IDLE)]
    async with asyncio.timeout(5):
        while f"blocked_clients:{len(waits)}".encode() not in await redis_link.call("INFO", "clients"):
            await asyncio.sleep(0.01)
        await redis_link.call("RPUSH", "l", *range(len(waits)))
        await asyncio.gather(*waits)

        while await clients(redis_link) != before + MAX_IDLE:
            await asyncio.sleep(0.01)


async def test_readers_of_logs_who_wait_are_bounded_and_keep_no_one_else_from_waiting(redis_link):
    logs = RedisLogs(redis_link, "default", 1_000)
    readers = [asyncio.ensure_future(logs.read("f", "", 5_000)) for _ in range(MAX_READERS)]
    async with asyncio.timeout(5):
        while f"blocked_clients:{MAX_READERS}".encode() not in await redis_link.call("INFO", "clients"):
            await asyncio.sleep(0.01)

    with pytest.raises(Throttled):
        await logs.read("f", "", 5_000)
    assert await redis_link.wait("PING", timeout_ms=0) == b"PONG"

    await logs.append("f", "slot", 0, 1, b"line", 0)
    assert {len(chunks) for chunks in await asyncio.gather(*readers)} == {1}
    assert await logs.read("f", "", 5_000) != []


# --- errors -----------------------------------------------------------------------------------------------------------


async def test_an_error_of_redis_is_told_with_its_name(redis_link):
    await redis_link.call("SET", "k", "text")

    error = await failure(redis_link.call("XLEN", "k"))

    assert isinstance(error, RedisRefused)
    assert error.refusal == "WRONGTYPE"
    assert await redis_link.call("GET", "k") == b"text"


async def test_a_waiting_command_that_is_refused_leaves_its_connection_usable(redis_link):
    before = await clients(redis_link)
    for _ in range(3):
        await failure(redis_link.wait("XLEN", timeout_ms=0))

    assert await clients(redis_link) == before + 1
    assert await redis_link.wait("PING", timeout_ms=0) == b"PONG"


async def test_a_script_that_redis_has_forgotten_is_loaded_again(redis_link):
    for _ in range(2):
        await redis_link.call("SCRIPT", "FLUSH")
        assert await redis_link.script("queue_depths", ["okiba:{t/f}"], []) == [0, 0]


async def test_nobody_at_the_address_is_told_at_once(tmp_path):
    assert "not reachable" in str(await failure(RedisLink.open(f"unix://{tmp_path}/none")))
    assert "not reachable" in str(await failure(RedisLink.open("redis://127.0.0.1:1")))


async def test_a_link_logs_in_and_selects_its_database(tmp_path):
    with start_valkey(tmp_path, "--port", "0") as server:
        link = await RedisLink.open(server.url)
        await link.call("CONFIG", "SET", "requirepass", "secret")
        protected = RedisLink(link_to(Address(server.socket, login=("secret",), database=3)))
        wrong = RedisLink(link_to(Address(server.socket, login=("wrong",))))

        assert await protected.wait("PING", timeout_ms=0) == b"PONG"
        assert "WRONGPASS" in str(await failure(wrong.wait("PING", timeout_ms=0)))
        assert b"db=3" in await link.call("CLIENT", "LIST")

        await asyncio.gather(link.close(), protected.close(), wrong.close())


def link_to(address: Address) -> ServerLink:
    async def find() -> Address:
        return address

    return ServerLink(find, 2000)


# --- Redis goes away --------------------------------------------------------------------------------------------------


async def test_while_redis_is_away_calls_fail_at_once_and_the_link_comes_back(tmp_path):
    with start_valkey(tmp_path) as first:
        link = await RedisLink.open(first.url)
        assert link.healthy
        waiting = asyncio.ensure_future(link.wait("BLPOP", "list", 30, timeout_ms=30_000))
        await asyncio.wait([waiting], timeout=0.05)
        first.process.kill()
        first.process.wait()
        await failure(waiting)
        await soon(lambda: not link.healthy)

        started = time.monotonic()
        for _ in range(100):
            await failure(link.call("PING"))
        assert time.monotonic() - started < 1

        with start_valkey(tmp_path, socket_path=first.socket):
            await soon(lambda: link.healthy)
            assert await link.call("PING") == b"PONG"
            assert await link.wait("PING", timeout_ms=0) == b"PONG"
            await link.close()


async def test_calls_under_way_when_redis_dies_fail(own_valkey):
    link = await RedisLink.open(own_valkey.url)
    own_valkey.process.send_signal(signal.SIGSTOP)
    calls = [asyncio.ensure_future(link.call("PING")) for _ in range(10)]
    await asyncio.wait(calls, timeout=0.1)
    own_valkey.process.kill()

    async with asyncio.timeout(1):
        for call in calls:
            await failure(call)
    await link.close()


async def test_a_redis_that_is_silent_for_3_s_costs_no_call_more_than_its_deadline_and_is_found_again(own_valkey):
    link = await RedisLink.open(own_valkey.url, timeout_ms=500)
    own_valkey.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    longest = 0.0
    while time.monotonic() - stopped < 3:
        started = time.monotonic()
        await failure(link.call("PING"))
        longest = max(longest, time.monotonic() - started)
        await asyncio.sleep(0.02)
    assert longest < 1
    assert not link.healthy

    own_valkey.process.send_signal(signal.SIGCONT)
    await soon(lambda: link.healthy, seconds=5)
    assert await link.call("ECHO", "again") == b"again"
    await link.close()


async def test_a_loop_that_was_held_up_itself_does_not_take_redis_for_silent(valkey):
    quick = await RedisLink.open(valkey.url, timeout_ms=100)
    calls = [asyncio.ensure_future(quick.call("ECHO", str(number))) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(0.3)

    assert [await call for call in calls] == [b"0", b"1", b"2"]
    assert quick.healthy
    await quick.close()


class IllServer(asyncio.Protocol):
    """Answers PINGs; the next `ill` of them badly."""

    ill = 0
    badly = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"+PONG\r\n" * data.count(b"PING"))
        if IllServer.ill:
            IllServer.ill -= 1
            self.transport.write(IllServer.badly)
            if not IllServer.badly:
                self.transport.close()


@pytest.mark.parametrize("badly", [b"", b"?\r\n", b"+PONG\r\n"], ids=["hangs up", "talks garbage", "says too much"])
async def test_a_server_that_misbehaves_is_left_and_tried_again_until_it_is_well(badly):
    folder = tempfile.mkdtemp(prefix="ok", dir="/tmp")
    server = await asyncio.get_running_loop().create_unix_server(IllServer, f"{folder}/socket")
    link = await RedisLink.open(f"unix://{folder}/socket")
    IllServer.ill, IllServer.badly = 5, badly

    well = 0
    async with asyncio.timeout(10):
        while well < 20:
            try:
                assert await link.call("PING") == b"PONG"
                well += 1
            except StoreUnavailable:
                well = 0
            await asyncio.sleep(0.005)

    assert IllServer.ill == 0
    await link.close()
    server.close()
    shutil.rmtree(folder)


async def test_a_closed_link_fails_calls(redis_link):
    await redis_link.close()

    await failure(redis_link.call("PING"))
    assert not redis_link.healthy
