"""The gateway's HTTP/1.1 server: httptools reads, this decides when a request is whole, one write answers it.

On the data path, hence by hand: through uvicorn and ASGI the same call is told as several messages and two writes.
What an application sees is a whole request, and what it gives back a whole answer. Bounded everywhere: head, body, and
the time that either may take.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Final, Protocol

import httptools

from okiba.apps.gateway.http import Call, Head, Reply, error_reply
from okiba.core.errors import InvalidRequestContent, OkibaError, RequestTooLarge
from okiba.core.ids import new_request_id

MAX_HEAD: Final = 64 * 1024
"""Bytes of request target and headers together."""
MAX_HEADERS: Final = 200
IN_MEMORY: Final = 1024 * 1024
"""A body that goes into a file stays in memory up to here."""

HEAD_S: Final = 20.0
BODY_S: Final = 300.0
IDLE_S: Final = 75.0
"""How long a head, a body, and a quiet kept-alive connection may take; looked after every `SWEEP_S`."""
SWEEP_S: Final = 5.0
LINGER_S: Final = 1.0
"""How long what follows unreadable bytes is still read, and dropped."""

WRITING_S: Final = 60.0
"""How long a client may take to read an answer."""
MAX_PIPELINED: Final = 32
"""Requests that may wait behind the one being answered."""

log = logging.getLogger(__name__)

_STATUS: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Admission:
    """What an application allows a request, having seen its head.

    Args:
        limit: Most bytes of its body.
        spool: Whether the body may go to a file.
        operation: What the error calls the operation when the body is larger.
    """

    limit: int
    spool: bool = False
    operation: str = "request's"


_NOT_ADMITTED: Final = Admission(0)


class Application(Protocol):
    """What answers requests."""

    def admit(self, head: Head) -> Admission:
        """What the request may send.

        Raises:
            OkibaError: Nothing; it is answered before its body is read.
        """
        ...

    def answer(self, call: Call) -> Awaitable[Reply]:
        """The answer. An OkibaError that is raised is told as one."""
        ...


_Work = tuple[Call | OkibaError, bool]
"""What is to be answered, and whether the connection goes on after that."""


class Connection(asyncio.Protocol):
    """One client's connection; one request at a time, later ones wait.

    Attributes:
        task: Answers its requests, from the first on: a task a request would cost 7 µs each.
        phase: What it waits for; `busy` while a request is being answered.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[_Work] = []
        self._last = False  # nothing that comes from now on is a request
        self._ended = False  # nothing comes from now on
        self._heard = False  # the parser had something to tell of the bytes at hand
        self._unheard = 0
        self._more: asyncio.Future[_Work] | None = None
        self.task: asyncio.Task[None] | None = None
        self.since = server.now()
        self.phase = "idle"
        self._taken = asyncio.Event()
        self._taken.set()
        self._begin()

    def _begin(self) -> None:
        self._target = ""
        self._headers: dict[str, str] = {}
        self._size = 0
        self._head: Head | None = None
        self._admission = _NOT_ADMITTED
        self._chunks: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._length = 0

    # --- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: the connection stands."""
        self._transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's: the client is gone. What he asked for goes on; its answer reaches nobody."""
        del exc
        self._transport = None
        self._waiting.clear()
        self._taken.set()
        self._server.connections.discard(self)
        if self._file is not None:
            self._file.close()
        if self.task is not None and self._more is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        """Asyncio's: the client does not read; then he is not read from either."""
        self._taken.clear()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Asyncio's: the client has read on."""
        self._taken.set()
        if self._transport is not None and not self._waiting and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes came."""
        if self._last:
            return
        self._heard = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # not offered here: the request was answered as it is, and the connection ends with that
        except httptools.HttpParserError as error:
            self._fail(str(error.__context__ or error) or "malformed request")
        # One header that does not end: the parser keeps it, copying it whole with each piece, and tells nothing.
        self._unheard = 0 if self._heard else self._unheard + len(data)
        if self._unheard > MAX_HEAD:
            self._refuse(_head_too_large())
        if self.phase == "idle" and self._has_begun():
            self.phase, self.since = self._part(), self._server.now()

    def _has_begun(self) -> bool:
        """Whether something of the next request is here; an empty line before it is nothing yet."""
        return bool(self._target or self._headers or self._unheard > len(b"\r\n"))

    def _part(self) -> str:
        """Which part of the next request is on its way."""
        return "head" if self._head is None else "body"

    def eof_received(self) -> bool:
        """Asyncio's: the client has said all that he will; what he asked is answered before the connection ends."""
        self._last = self._ended = True
        return self.busy

    def _fail(self, reason: str) -> None:
        """The bytes are no HTTP, and nothing after them can be understood."""
        self._refuse(InvalidRequestContent(f"the request could not be read as HTTP/1.1: {reason}"))

    def _refuse(self, error: OkibaError) -> None:
        """Answers, in its turn, without reading any further; the connection ends with that."""
        if not self._last:
            self._last = True
            self._do(error, keep_alive=False)

    # --- httptools --------------------------------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._heard = True
        self._count(len(url))
        self._target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._heard = True
        if self._head is not None:
            return  # a trailer: nothing that was decided by the head is decided anew
        self._count(len(name) + len(value))
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known},{text}"

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_HEAD or len(self._headers) > MAX_HEADERS:
            raise _head_too_large()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._heard = True
        head = self._head = Head(self._parser.get_method().decode("latin-1"), self._target, self._headers)
        if not self.busy:
            self.phase, self.since = "body", self._server.now()
        try:
            if head.method == "CONNECT" or self._parser.get_http_version() not in {"1.1", "1.0"}:
                raise InvalidRequestContent("expected an HTTP/1.1 request to a path of this server")
            self._admission = self._server.application.admit(head)
            announced = head.headers.get("content-length", "")
            # Checked before the body arrives: a liar must not make us wait for 4 GiB.
            if announced.isdigit() and int(announced) > self._admission.limit:
                raise self._too_large(int(announced))
        except OkibaError as error:
            self._refuse(error)
            return
        if head.headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._heard = True
        self._length += len(body)
        if self._last:
            return
        if self._length > self._admission.limit:
            self._refuse(self._too_large(self._length))
        elif self._file is not None:
            self._file.write(body)
        else:
            self._chunks.append(body)
            if self._admission.spool and self._length > IN_MEMORY:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its call)
                self._file.writelines(self._chunks)
                self._chunks.clear()

    def _too_large(self, seen: int) -> RequestTooLarge:
        return RequestTooLarge(seen, self._admission.limit, self._admission.operation)

    def on_chunk_header(self) -> None:
        """A chunk of the body begins, the last and empty one too."""
        self._heard = True

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._heard = True
        if self._last or self._head is None:
            return
        keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        if self._file is not None:
            self._file.seek(0)
            call = Call(self._head, self._file)
        else:
            call = Call(self._head, self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))
        self._begin()
        self._last = not keep_alive
        self._do(call, keep_alive)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.task is not None and self._more is None

    def _do(self, work: Call | OkibaError, keep_alive: bool) -> None:
        """Answers it now, or when those before it have been answered."""
        if self.busy:
            self._wait(work, keep_alive)
            return
        self.phase = "busy"
        if self._more is None:
            self.task = self._server.loop.create_task(self._serve(work, keep_alive))
        elif not self._more.done():
            self._more.set_result((work, keep_alive))
        self._more = None

    def _wait(self, work: Call | OkibaError, keep_alive: bool) -> None:
        if len(self._waiting) + 1 == MAX_PIPELINED:
            self._last, keep_alive = True, False  # what follows is not read
        self._waiting.append((work, keep_alive))
        if self._transport is not None:
            self._transport.pause_reading()

    # --- answering --------------------------------------------------------------------------------------------------

    async def _serve(self, work: Call | OkibaError, keep_alive: bool) -> None:
        try:
            await self._serve_all(work, keep_alive)
        except BaseException:
            self.abort()  # or it would be busy for ever
            raise
        finally:
            self.task, self._more = None, None
            self.phase, self.since = "idle", self._server.now()

    async def _serve_all(self, work: Call | OkibaError, keep_alive: bool) -> None:
        while True:
            bare = isinstance(work, Call) and work.head.method == "HEAD"
            reply = await self._answer(work)
            close = not keep_alive or self._server.closing or (self._ended and not self._waiting)
            self._write(reply, close=close, bare=bare)
            if not self._taken.is_set():
                self.phase, self.since = "writing", self._server.now()
                await self._taken.wait()  # nothing more for who does not read what he has been told
            if close or self._transport is None:
                return
            work, keep_alive = self._waiting.pop(0) if self._waiting else await self._idle()
            self.phase = "busy"

    def _idle(self) -> asyncio.Future[_Work]:
        """What comes next."""
        self._more = self._server.loop.create_future()
        self.phase, self.since = self._part() if self._has_begun() else "idle", self._server.now()
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()
        return self._more

    async def _answer(self, work: Call | OkibaError) -> Reply:
        if isinstance(work, OkibaError):
            return error_reply(work, new_request_id())
        try:
            return await self._server.application.answer(work)
        except OkibaError as error:
            return error_reply(error, new_request_id())
        except Exception:  # the loop of a connection: its client is told, the log has it, others go on
            request_id = new_request_id()
            log.exception("a request broke", extra={"path": work.head.path, "request_id": request_id})
            return error_reply(OkibaError("internal error; the gateway's log has the details"), request_id)
        finally:
            if not isinstance(work.body, bytes):
                work.body.close()

    def _write(self, reply: Reply, *, close: bool, bare: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(_rendered(reply, close=close, bare=bare))
        if close and self._last:
            # What is still on its way is read and dropped for a moment: closing at once would reset the connection,
            # and the client might never see why.
            transport.write_eof()
            self._server.loop.call_later(LINGER_S, transport.close)
        elif close:
            transport.close()

    def overdue(self, now: float) -> bool:
        """Whether the client has had all the time he may have."""
        allowed = {"idle": IDLE_S, "head": HEAD_S, "body": BODY_S, "writing": WRITING_S}.get(self.phase)
        return allowed is not None and now - self.since > allowed

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def end(self) -> None:
        """Closes the connection; an answer that is being made is finished."""
        if self._transport is None:
            return
        if self.phase == "writing":
            self.abort()
        elif not self.busy:
            self._transport.close()


def _head_too_large() -> InvalidRequestContent:
    return InvalidRequestContent(f"a head must be below {MAX_HEAD} bytes and {MAX_HEADERS} headers")


def _rendered(reply: Reply, *, close: bool, bare: bool) -> bytes:
    """The answer's bytes; to HEAD it is told without its body."""
    parts = [_STATUS[reply.status]]
    for name, value in reply.headers:
        parts += (name, b": ", value, b"\r\n")
    if close:
        parts.append(b"connection: close\r\n")
    parts.append(b"content-length: %d\r\n\r\n" % len(reply.body) if reply.status != 204 else b"\r\n")
    if not bare:
        parts.append(reply.body)
    return b"".join(parts)


class Server:
    """Serves an application on one address."""

    def __init__(self, application: Application, address: str) -> None:
        self.application = application
        self.connections: set[Connection] = set()
        self.closing = False
        self.loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self.loop.time
        self._host, _, self._port = address.rpartition(":")
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: The address is taken, or is none.
        """
        host = self._host.strip("[]")
        self._server = await self.loop.create_server(lambda: Connection(self), host, int(self._port), backlog=2048)

    async def sweep(self) -> None:
        """Closes connections whose clients take too long; runs for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self.now()
            for connection in [each for each in self.connections if each.overdue(now)]:
                connection.end()

    async def stop(self, grace_s: float) -> None:
        """Takes no more requests; those that are being answered have `grace_s`."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.end()
        running = [connection.task for connection in self.connections if connection.task and connection.busy]
        if running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await asyncio.gather(*running, return_exceptions=True)
        for connection in list(self.connections):
            connection.abort()
