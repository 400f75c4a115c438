"""The gateway's HTTP server over a real socket: whole requests, bounded ones, and what is none."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from okiba.apps.gateway import server as subject
from okiba.apps.gateway.http import Reply
from okiba.apps.gateway.server import Admission, Server
from okiba.core.errors import AccessDenied


class Echo:
    """Answers with what it was asked; `/secret` is refused by its head, `/slow` waits for its gate."""

    def __init__(self):
        self.gate, self.seen = asyncio.Event(), []

    def admit(self, head):
        if head.path == "/secret":
            raise AccessDenied("not for you")
        return Admission(3_000_000, spool=head.path == "/spool")

    async def answer(self, call):
        self.seen.append(call.head.path)
        if call.head.path == "/slow":
            await self.gate.wait()
        if call.head.path == "/broken":
            raise ZeroDivisionError("a defect")
        body = call.body if isinstance(call.body, bytes) else call.body.read()
        told = {
            b"x-path": call.head.path,
            b"x-query": call.head.query,
            b"x-extra": call.head.headers.get("x-extra", ""),
        }
        return Reply(200, [(name, text.encode()) for name, text in told.items()], body)


@asynccontextmanager
async def serving():
    """The server, and a way to talk to it in bytes."""
    app = Echo()
    here = Server(app, "127.0.0.1:0")
    await here.start()
    port = here._server.sockets[0].getsockname()[1]
    try:
        yield app, here, port
    finally:
        app.gate.set()
        await here.stop(1)
        await asyncio.sleep(0)  # transports close in the loop's next turn


async def told(port, data, count=1, chunk=None):
    """The raw answers to raw bytes, read until so many are whole or the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for start in range(0, len(data), chunk or len(data) or 1):
        writer.write(data[start : start + (chunk or len(data))])
        await writer.drain()
        if chunk:
            await asyncio.sleep(0)
    answers = []
    async with asyncio.timeout(10):
        for _ in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            answers.append((head, await reader.readexactly(length)))
    writer.close()
    return answers


POST = b"POST /a%20b?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"


async def test_a_request_is_answered():
    async with serving() as (_, _, port):
        ((head, body),) = await told(port, POST)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"x-path: /a b\r\n" in head
        assert b"x-query: x=1\r\n" in head
        assert body == b"hello"


@pytest.mark.parametrize("chunk", [1, 7, 40])
async def test_a_request_in_pieces_is_the_same_request(chunk):
    async with serving() as (_, _, port):
        ((_, body),) = await told(port, POST, chunk=chunk)
        assert body == b"hello"


async def test_pipelined_requests_are_answered_in_their_order():
    async with serving() as (_, _, port):
        answers = await told(port, POST + POST.replace(b"hello", b"again") + POST, count=3)
        assert [body for _, body in answers] == [b"hello", b"again", b"hello"]


async def test_a_chunked_body_is_one_body():
    async with serving() as (_, _, port):
        request = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        assert (await told(port, request))[0][1] == b"abcde"


async def test_a_large_body_goes_through_a_file_and_comes_back_whole():
    async with serving() as (_, _, port):
        body = bytes(range(256)) * 8_000
        head = b"POST /spool HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await told(port, head + body))[0][1] == body


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000001\r\n\r\n" + b"x" * 3_000_001, id="announced"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2dc6c1\r\n"
            + b"x" * 3_000_001
            + b"\r\n0\r\n\r\n",
            id="not announced",
        ),
    ],
)
async def test_a_body_over_its_limit_is_413(request_bytes):
    async with serving() as (app, _, port):
        ((head, body),) = await told(port, request_bytes)
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in head
        assert b"3000001" in body
        assert app.seen == []


@pytest.mark.parametrize(
    "announced", [b"Content-Length: 4000000000", b"Content-Length: 4000000000\r\nExpect: 100-continue"]
)
async def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(announced):
    async with serving() as (_, _, port):
        ((head, _),) = await told(port, b"POST / HTTP/1.1\r\nHost: h\r\n" + announced + b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")


async def test_a_request_that_its_head_refuses_is_answered_before_its_body_comes():
    async with serving() as (_, _, port):
        ((head, _),) = await told(port, b"POST /secret HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403 ")


async def test_a_trailer_changes_no_header():
    async with serving() as (_, _, port):
        body = b"3\r\nabc\r\n0\r\nX-Extra: from the trailer\r\n\r\n"
        request = b"POST /t HTTP/1.1\r\nHost: h\r\nX-Extra: head\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        ((head, _),) = await told(port, request)
        assert b"x-extra: head\r\n" in head


async def test_head_is_answered_without_a_body():
    async with serving() as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HEAD /h HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert answer.endswith(b"\r\n\r\n")


async def test_garbage_behind_a_slow_request_is_answered_after_it():
    async with serving() as (app, _, port):
        slow = POST.replace(b"/a%20b?x=1", b"/slow")
        asking = asyncio.create_task(told(port, slow + b"garbage\r\n\r\n", count=2))
        async with asyncio.timeout(10):
            while not app.seen:
                await asyncio.sleep(0.001)
        app.gate.set()
        first, second = await asking
        assert first[0].startswith(b"HTTP/1.1 200 ")
        assert second[0].startswith(b"HTTP/1.1 400 ")


async def test_a_defect_is_a_500_and_others_go_on():
    async with serving() as (_, _, port):
        ((head, _),) = await told(port, POST.replace(b"/a%20b?x=1", b"/broken"))
        assert head.startswith(b"HTTP/1.1 500 ")
        assert (await told(port, POST))[0][1] == b"hello"


async def test_who_does_not_read_his_answers_gets_no_more_of_them_and_is_hung_up_on_in_the_end():
    async with serving() as (app, here, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b"x" * 2_000_000
        request = b"POST /big HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        sending = asyncio.create_task(_send_all(writer, request * 20))
        async with asyncio.timeout(20):
            while not any(connection.phase == "writing" for connection in here.connections):
                await asyncio.sleep(0.005)
        before = len(app.seen)
        await asyncio.sleep(0.1)
        assert len(app.seen) == before < 20
        here.now = lambda: asyncio.get_running_loop().time() + subject.WRITING_S + 1
        for connection in list(here.connections):
            assert connection.overdue(here.now())
            connection.end()
        async with asyncio.timeout(5):
            while here.connections:
                await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        reader._transport.abort()


async def _send_all(writer, data):
    for start in range(0, len(data), 65_536):
        writer.write(data[start : start + 65_536])
        await writer.drain()


async def test_what_its_head_refuses_is_answered_without_being_asked():
    async with serving() as (app, _, port):
        ((head, body),) = await told(port, POST.replace(b"/a%20b?x=1", b"/secret"))
        assert head.startswith(b"HTTP/1.1 403 ")
        assert b"not for you" in body
        assert app.seen == []


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS"),
        pytest.param(b"GET /\r\n\r\n", id="HTTP/0.9"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", id="two lengths"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length and chunks",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\nhello", id="unknown coding"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\n\x00bad: x\r\n\r\n", id="NUL in a header"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", id="CONNECT"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x: y\r\n" * 50_000 + b"\r\n", id="too much head"),
        pytest.param(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", id="too long a target"),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_closed(garbage):
    async with serving() as (app, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in answer
        assert app.seen == []


async def test_an_upgrade_is_not_offered_and_the_request_answered_as_it_is():
    async with serving() as (_, _, port):
        request = b"GET /u HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
        ((head, _),) = await told(port, request)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in head


async def test_a_client_that_asks_first_is_told_to_go_on():
    async with serving() as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        async with asyncio.timeout(10):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_who_sends_his_head_too_slowly_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(subject, "SWEEP_S", 0.01)
    async with serving() as (_, here, port):
        sweeping = asyncio.create_task(here.sweep())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHo")
        async with asyncio.timeout(10):
            while not any(connection.phase == "head" for connection in here.connections):
                await asyncio.sleep(0.001)
            here.now = lambda: asyncio.get_running_loop().time() + subject.HEAD_S + 1
            assert await reader.read() == b""
        sweeping.cancel()
        writer.close()


async def test_stopping_finishes_what_is_being_answered():
    async with serving() as (app, here, port):
        asking = asyncio.create_task(told(port, POST.replace(b"/a%20b?x=1", b"/slow")))
        async with asyncio.timeout(10):
            while not app.seen:
                await asyncio.sleep(0.001)
        stopping = asyncio.create_task(here.stop(5))
        await asyncio.sleep(0)
        app.gate.set()
        ((head, body),) = await asking
        await stopping
        assert body == b"hello"
        assert b"connection: close" in head


async def all_told(port, data, *, half_closed=False):
    """Everything that the server says until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    if half_closed:
        writer.write_eof()
    async with asyncio.timeout(10):
        answers = await reader.read()
    writer.close()
    return answers


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"GET / HTTP/1.1\r\nx-long: ", id="a header's value"),
        pytest.param(b"GET / HTTP/1.1\r\nx", id="a header's name"),
        pytest.param(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ", id="a trailer"),
    ],
)
async def test_a_line_that_does_not_end_is_refused(begun):
    async with serving() as (_, _, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        sent = 0
        async with asyncio.timeout(10):
            while sent < 8 * subject.MAX_HEAD and not reader._buffer:
                writer.write(b"a" * 4096)
                await writer.drain()
                await asyncio.sleep(0)
                sent += 4096
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert sent < 3 * subject.MAX_HEAD


async def test_more_requests_at_once_than_are_taken_end_with_the_connection_and_not_in_silence():
    async with serving() as (_, _, port):
        answers = await all_told(port, POST * 100)
    assert answers.count(b"HTTP/1.1 200 OK") == subject.MAX_PIPELINED + 1
    assert answers.count(b"connection: close") == 1


async def test_who_has_said_all_he_will_still_hears_the_answer():
    async with serving() as (app, _, port):
        asyncio.get_running_loop().call_later(0.05, app.gate.set)
        answers = await all_told(port, b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n", half_closed=True)
    assert answers.startswith(b"HTTP/1.1 200 OK")


async def test_a_connection_that_its_client_closes_leaves_no_task_behind():
    async with serving() as (_, here, port):
        before = asyncio.all_tasks()
        await told(port, POST)
        async with asyncio.timeout(5):
            while here.connections or asyncio.all_tasks() - before:
                await asyncio.sleep(0)


async def test_a_body_that_comes_while_another_request_is_answered_has_the_time_of_a_body(monkeypatch):
    monkeypatch.setattr(subject, "IDLE_S", 0.02)
    monkeypatch.setattr(subject, "SWEEP_S", 0.005)
    async with serving() as (app, here, port):
        sweep = asyncio.create_task(here.sweep())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n" + POST[:-2])
        await asyncio.sleep(0.01)
        app.gate.set()
        await asyncio.sleep(0.1)
        writer.write(POST[-2:])
        async with asyncio.timeout(5):
            answers = await reader.read(10_000)
            while answers.count(b"HTTP/1.1 200 OK") < 2:
                answers += await reader.read(10_000)
        writer.close()
        sweep.cancel()


async def test_an_application_that_is_cancelled_does_not_leave_its_client_hanging():
    class Cancelled(Echo):
        async def answer(self, call):
            raise asyncio.CancelledError

    app = Cancelled()
    here = Server(app, "127.0.0.1:0")
    await here.start()
    assert await all_told(here._server.sockets[0].getsockname()[1], POST) == b""
    await here.stop(1)
