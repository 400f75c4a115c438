"""One connection that speaks RESP 2: commands out, replies matched to them by their order alone.

Hand-written because it is on the hot path (measured on two cores, CPU a call: 3 µs here with 16 callers, 17 with
one; 160 in redis-py's asyncio client). What a turn of the event loop issues leaves in one write.

A caller that is cancelled leaves its place in the order: the reply to it is read, and dropped.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import hiredis

from okiba.core.errors import InvalidParameter, StoreUnavailable

Argument = bytes | str | int | float

_NOTHING: Final = object()
_GRACE_S: Final = 0.05
_ENTRY: Final = re.compile(r"\d{1,19}(?:-\d{1,19})?", re.ASCII)


class RedisRefused(StoreUnavailable):
    """Redis answered with an error.

    Args:
        code: The error's first word: `OOM`, `READONLY`, `LOADING`, `NOGROUP`, `NOSCRIPT`, `WRONGTYPE` …
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"Redis refused: {message}")
        self.refusal = message.partition(" ")[0]


def entry_id(text: str) -> str:
    """A stream entry's id that came from outside, checked.

    Raises:
        InvalidParameter: It is none.
    """
    if not _ENTRY.fullmatch(text):
        raise InvalidParameter(f"expected an id as in '1764000000000-0', got {text[:64]!r}")
    return text


class Connection(asyncio.Protocol):
    """A connection to Redis; once lost it stays so.

    Args:
        timeout_s: The oldest unanswered command may be this old, then the connection counts as lost.
            Infinite where commands may block.
        on_lost: Told once, when the connection is lost for any reason but `close`.
    """

    def __init__(self, timeout_s: float, on_lost: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._on_lost = on_lost
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._calls: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._outbox: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None
        self._suspect: asyncio.Future[Any] | None = None
        self._transport: asyncio.Transport | None = None
        self._lost: StoreUnavailable | None = None

    @property
    def lost(self) -> bool:
        """It takes no more commands."""
        return self._lost is not None

    def send(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """The reply to come; fails with StoreUnavailable."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._lost is not None:
            future.set_exception(StoreUnavailable(str(self._lost)))
            return future
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub says a tuple of one
        self._calls.append((future, self._loop.time()))
        if self._watch is None and self._timeout_s < math.inf:
            self._watch = self._loop.call_later(self._timeout_s, self._check)
        return future

    def close(self, reason: str = "the connection to Redis was closed") -> None:
        """Ends it; what is unanswered fails."""
        self._lose(reason)

    # --- what asyncio calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Told by asyncio."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is a Transport

    def data_received(self, data: bytes) -> None:
        """Told by asyncio."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                self._answer(self._calls.popleft()[0], reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self._fail(f"Redis sent what is no answer: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Told by asyncio."""
        self._fail(f"the connection to Redis broke: {exc or 'closed by the other side'}")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _answer(self, future: asyncio.Future[Any], reply: Any) -> None:
        if future.done():
            return  # its caller was cancelled; the reply is nobody else's
        if isinstance(reply, hiredis.ReplyError):
            future.set_exception(RedisRefused(str(reply)))
        else:
            future.set_result(reply)

    def _flush(self) -> None:
        commands, self._outbox = self._outbox, []
        if self._transport is not None and self._lost is None:
            self._transport.write(b"".join(commands))

    def _check(self) -> None:
        """One timer watches over all calls: answers come in order, so only the oldest can be too old."""
        self._watch = None
        if not self._calls:
            return
        oldest, since = self._calls[0]
        left_s = since + self._timeout_s - self._loop.time()
        if left_s <= 0 and oldest is self._suspect:
            self._fail(f"Redis did not answer within {self._timeout_s * 1000:.0f} ms")
            return
        # A loop that was held up itself (uvloop runs timers before it reads) must not take Redis for silent.
        self._suspect = oldest if left_s <= 0 else None
        self._watch = self._loop.call_later(max(left_s, _GRACE_S), self._check)

    def _fail(self, reason: str) -> None:
        if self._lost is None:
            self._lose(reason)
            self._on_lost(self)

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or StoreUnavailable(reason)
        if self._transport is not None:
            self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        self._outbox.clear()
        while self._calls:
            future = self._calls.popleft()[0]
            if not future.done():
                future.set_exception(StoreUnavailable(reason))
