"""One connection to a slot: questions, answers, and what happens when none comes."""

import asyncio
import gc
import weakref

import pytest

from okiba import wire
from okiba.adapters.slot_http import HttpSlot, connect
from okiba.core.errors import SlotLost
from okiba.core.invocation import Ending, Invocation
from okiba.ports import SlotAddress
from tests.deadline import soon

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def echo(reader, writer):
    while asked := await reader.read(100):
        if asked != b"silence":
            writer.write(ANSWER)
    writer.close()
    await writer.wait_closed()


@pytest.fixture
async def connection(request):
    """A connection to an agent that answers every question but `silence`."""
    host = getattr(request, "param", "127.0.0.1")
    ended = asyncio.Event()

    async def serve(reader, writer):
        await echo(reader, writer)
        ended.set()

    server = await asyncio.start_server(serve, host.strip("[]"), 0)
    connection = await connect(f"tcp:{host}:{server.sockets[0].getsockname()[1]}")
    yield connection
    connection.close()
    await ended.wait()
    server.close()


async def test_a_question_that_may_wait_less_long_than_the_one_before_is_given_up_in_its_own_time(connection):
    await connection.ask(b"first", 60)
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await connection.ask(b"silence", 0.02)
    assert connection.closed


async def test_the_time_of_an_answered_question_does_not_end_the_next_one(connection):
    await connection.ask(b"first", 0.05)
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await connection.ask(b"silence", 0.3)
    assert asyncio.get_running_loop().time() - began >= 0.29


async def test_a_connection_at_rest_stays_open_when_an_answered_questions_time_is_over(connection):
    await connection.ask(b"first", 0.02)
    await asyncio.sleep(0.06)
    assert (await connection.ask(b"second", 1)).status == 200


async def test_an_answer_that_nobody_asked_for_ends_the_connection(connection):
    connection.data_received(ANSWER)
    with pytest.raises(SlotLost):
        await connection.ask(b"first", 1)


async def test_a_question_that_is_withdrawn_ends_the_connection(connection):
    asked = asyncio.create_task(connection.ask(b"silence", 1))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    assert connection.closed  # its answer would meet the next question


async def test_nothing_is_left_of_a_closed_connection_whose_question_had_long_to_go():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    connection = await connect(f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await connection.ask(b"first", 900)
    connection.close()
    left = weakref.ref(connection)
    del connection
    await soon(lambda: gc.collect() >= 0 and left() is None, 5)
    server.close()


async def test_two_questions_at_a_time_are_refused(connection):
    first = asyncio.create_task(connection.ask(b"silence", 1))
    await asyncio.sleep(0)
    with pytest.raises(wire.ProtocolError):
        await connection.ask(b"second", 1)
    connection.close()
    with pytest.raises(SlotLost):
        await first


@pytest.mark.parametrize("connection", ["[::1]"], indirect=True)
async def test_an_agent_on_an_ipv6_address_is_reached(connection):
    assert (await connection.ask(b"first", 1)).status == 200


async def test_a_slot_that_was_told_to_leave_has_not_begun_what_it_is_given():
    class Leaving:
        closed = False

        async def ask(self, request, timeout_s):
            return wire.Answer(503, {}, b'{"errorType": "Okiba.Leaving"}')

        def close(self): ...

    dead = []
    slot = HttpSlot(SlotAddress("s1", "python3.11", "unix:/x", "f", "r1"), "", None, dead.append)
    slot._connection = Leaving()
    outcome = await slot.invoke(Invocation("id", "f", b"{}", "arn"), 1_000)
    assert (outcome.ending, outcome.unstarted, outcome.lost_slot) == (Ending.PLATFORM_FAILURE, True, False)
    assert dead == [slot]
