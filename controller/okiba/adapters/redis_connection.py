"""One connection that speaks RESP 2: commands out, replies matched to them by their order alone.

Hand-written because it is on the hot path (measured on two cores, CPU a call: 3 µs here with 16 callers, 17 with
one; 160 in redis-py's asyncio client). What a turn of the event loop issues leaves in one write.

A caller that is cancelled leaves its place in the order: the reply to it is read, and dropped.

Where replicas must have a change before it counts as made, each write to the socket ends with a WAIT, and the replies
to its changes are kept back until that is answered:

    out   SET  GET  EVALSHA  WAIT 1 1500
    in    OK   "v"  1        1              the GET is answered at once, the others with the last
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
_REPLICA_SHARE: Final = 0.5
"""Of the time for an answer, what replicas have: the answer that they were too slow has to arrive in time too."""

_LATE_REPLICA_MS: Final = 50
"""What they have after they were too slow, until they are not: whoever comes next must not wait behind that too."""

_READS: Final = frozenset(
    (
        *("ECHO", "EXISTS", "GET", "HGET", "HGETALL", "HMGET", "INFO", "PING", "SMEMBERS", "TIME"),
        *("XINFO", "XLEN", "XRANGE", "XREAD", "XREVRANGE"),
    )
)
"""Commands that change nothing; any other may."""

_ENTRY: Final = re.compile(r"\d{1,19}(?:-\d{1,19})?", re.ASCII)


class RedisRefused(StoreUnavailable):
    """Redis answered with an error.

    Args:
        code: The error's first word: `OOM`, `READONLY`, `LOADING`, `NOGROUP`, `NOSCRIPT`, `WRONGTYPE` …
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"Redis refused: {message}")
        self.refusal, _, self.detail = message.partition(" ")


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

    Attributes:
        replicas: So many must have a change before it counts as made; to be set once the server has let us in.
    """

    def __init__(self, timeout_s: float, on_lost: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._on_lost = on_lost
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._calls: deque[tuple[asyncio.Future[Any] | None, float, bool]] = deque()  # None: a WAIT; True: kept back
        self._kept_back: list[tuple[asyncio.Future[Any], Any]] = []
        self._outbox: list[bytes] = []
        self._changes = False  # that no WAIT has been sent behind
        self._waiting = False  # for replicas; one WAIT at a time, for Redis answers nothing else behind it meanwhile
        self._in_step = True
        self.replicas = 0
        self._watch: asyncio.TimerHandle | None = None
        self._suspect: object = _NOTHING
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
        changes = self.replicas > 0 and command[0] not in _READS
        self._changes = self._changes or changes
        self._calls.append((future, self._loop.time(), changes))
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
                future, _, changed = self._calls.popleft()
                if future is None:
                    self._replicated(reply)
                elif changed:
                    self._kept_back.append((future, reply))
                else:
                    self._answer(future, reply)
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
            self._refused(future, RedisRefused(str(reply)))
        else:
            future.set_result(reply)

    def _refused(self, future: asyncio.Future[Any], error: RedisRefused) -> None:
        future.set_exception(error)
        if error.refusal == "READONLY":  # it was the primary once; whoever finds servers has to look again
            self._fail(str(error))

    def _replicated(self, reply: Any) -> None:
        """Answers what was kept back; a change that too few replicas have may be lost, so it was not made."""
        kept_back, self._kept_back, self._waiting = self._kept_back, [], False
        self._in_step = enough = isinstance(reply, int) and reply >= self.replicas
        for future, answer in kept_back:
            if enough or isinstance(answer, hiredis.ReplyError):
                self._answer(future, answer)
            elif not future.done():
                future.set_exception(StoreUnavailable(f"{reply} of {self.replicas} replicas have what Redis was told"))
        if self._changes:  # made since
            self._flush()

    def _flush(self) -> None:
        if self._changes and not self._waiting and self._lost is None:
            patience_ms = int(self._timeout_s * _REPLICA_SHARE * 1000) if self._in_step else _LATE_REPLICA_MS
            wait = hiredis.pack_command(("WAIT", self.replicas, patience_ms))  # type: ignore[arg-type]  # as above
            self._outbox.append(wait)
            self._calls.append((None, self._loop.time(), False))
            self._changes, self._waiting = False, True
        commands, self._outbox = self._outbox, []
        if self._transport is not None and self._lost is None:
            self._transport.write(b"".join(commands))

    def _check(self) -> None:
        """One timer watches over all calls: answers come in order, so only the oldest can be too old."""
        self._watch = None
        if not self._calls:
            return
        oldest, since, _ = self._calls[0]
        left_s = since + self._timeout_s - self._loop.time()
        if left_s <= 0 and oldest is self._suspect:
            self._fail(f"Redis did not answer within {self._timeout_s * 1000:.0f} ms")
            return
        # A loop that was held up itself (uvloop runs timers before it reads) must not take Redis for silent.
        self._suspect = oldest if left_s <= 0 else _NOTHING
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
        open_calls = [future for future, _ in self._kept_back] + [future for future, _, _ in self._calls]
        self._kept_back.clear()
        self._calls.clear()
        for future in open_calls:
            if future is not None and not future.done():
                future.set_exception(StoreUnavailable(reason))
