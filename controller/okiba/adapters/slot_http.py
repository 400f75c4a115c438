"""Connections to slots: one for invocations, one for telemetry, and how a warm slot becomes a function's.

On the data path. `SlotConnection` is an asyncio protocol and not a stream, for a stream costs a task switch and two
copies an answer. Everything that can go wrong in an invocation ends as an `Outcome`, never as an exception.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from okiba import wire
from okiba.core.alarm import Alarm
from okiba.core.errors import PlatformError, SlotLost
from okiba.core.invocation import Ending, Invocation, Outcome
from okiba.core.slot_end import is_out_of_memory
from okiba.ports import Greeting, SlotAddress

CONNECT_S: Final = 2.0
BEAT_MS: Final = 5_000
SILENCE_S: Final = 15.0
"""Three beats missed: the slot counts as lost (a frozen node looks like this)."""
OVERTIME_S: Final = 1.0
"""How long past an invocation's deadline the agent has to kill and report before the gateway gives the slot up."""
REPORT_S: Final = 1.0
"""How long a broken connection's cause may take to be reported."""


class SlotConnection(asyncio.Protocol):
    """One connection to an agent or its worker; one question at a time."""

    def __init__(self) -> None:
        self._reader = wire.AnswerReader()
        self._answer: asyncio.Future[wire.Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._alarm = Alarm(self._loop.call_at, self._ring)
        self.closed = False
        self.on_close: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: the connection stands."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes came."""
        try:
            answer = self._reader.feed(data)
        except wire.ProtocolError as error:
            self._fail(error)
            return
        if answer is None:
            return
        waiting, self._answer = self._answer, None
        if waiting is None:
            self._fail(wire.ProtocolError("an answer that nobody asked for"))
        elif not waiting.done():
            waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's: the connection is gone."""
        self._fail(SlotLost(f"the connection to the slot ended: {exc or 'closed by the slot'}"))

    def _fail(self, error: PlatformError) -> None:
        first, self.closed = not self.closed, True
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
        self._alarm.stop()
        if first and self.on_close is not None:
            self.on_close()

    def close(self) -> None:
        """Ends the connection; whoever waits on it gets `SlotLost`."""
        self._fail(SlotLost("the connection was closed by this gateway"))

    async def ask(self, request: bytes, timeout_s: float) -> wire.Answer:
        """The answer to one request.

        Raises:
            SlotLost: The connection broke.
            TimeoutError: No answer in time; the connection is then closed, for a late one must not meet the next.
        """
        if self.closed or self._transport is None:
            raise SlotLost("the connection to the slot is closed")
        if self._answer is not None:
            raise wire.ProtocolError("one question at a time")
        answer: asyncio.Future[wire.Answer] = self._loop.create_future()
        self._answer = answer
        self._due = self._loop.time() + timeout_s
        self._alarm.by(self._due)
        self._transport.write(request)
        try:
            return await answer
        except asyncio.CancelledError:
            self.close()
            raise

    def _ring(self) -> None:
        answer = self._answer
        if answer is None or answer.done():
            return
        if self._loop.time() < self._due:  # another question than the one it was set for
            self._alarm.by(self._due)
            return
        self._answer = None
        answer.set_exception(TimeoutError("the slot did not answer in time"))
        self.close()


MAX_TAIL_PAGES: Final = 20
TAIL_BYTES: Final = 64 * 1024
LOG_END: Final = 10**17
"""An offset past every log: asks for a beat without output."""
LOG_PAUSE_S: Final = 1.0
"""Pause before output is asked for again that could not be kept; the slot's ring holds 4 MiB of it."""
LAST_LINES_S: Final = 2.0
"""How long a slot that is given up may take to hand over its last log lines."""


async def connect(address: str) -> SlotConnection:
    """A connection to an agent.

    Raises:
        SlotLost: Nobody listens there, or not within `CONNECT_S`.
    """
    loop = asyncio.get_running_loop()
    scheme, _, rest = address.partition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            if scheme == "unix":
                _, connection = await loop.create_unix_connection(SlotConnection, rest)
            else:
                host, _, port = rest.rpartition(":")
                _, connection = await loop.create_connection(SlotConnection, host.strip("[]"), int(port))
    except (OSError, TimeoutError, ValueError) as error:
        raise SlotLost(f"no agent answers at {address}: {error}") from error
    return connection


async def _connect_twice(address: str) -> tuple[SlotConnection, SlotConnection]:
    """Two connections, or none."""
    first, second = await asyncio.gather(connect(address), connect(address), return_exceptions=True)
    if isinstance(first, SlotConnection) and isinstance(second, SlotConnection):
        return first, second
    for each in (first, second):
        if isinstance(each, SlotConnection):
            each.close()
    raise next(each for each in (first, second) if isinstance(each, BaseException))


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One beat of a slot."""

    state: str
    running: str
    log_from: int
    log_dropped: int
    log_time_ms: int
    log: bytes
    preload: tuple[str, ...]
    exit: Mapping[str, Any] | None


async def running(address: str, grant: str) -> str:
    """The request id that runs in a specialised slot right now, or empty.

    Raises:
        SlotLost: It does not answer.
    """
    connection = await connect(address)
    answer = await _asked(connection, wire.telemetry_request(grant, LOG_END, 0), CONNECT_S)
    connection.close()
    return _telemetry(answer).running


def _telemetry(answer: wire.Answer) -> Telemetry:
    if answer.status != 200:
        raise wire.ProtocolError(f"telemetry should be answered by 200, got {answer.status}: {answer.body[:200]!r}")
    told = answer.headers.get(b"okiba-exit")
    try:
        exit_report = json.loads(told) if told else None
    except (ValueError, RecursionError) as error:
        raise wire.ProtocolError(f"Okiba-Exit should be JSON, got {told!r}") from error
    preload = answer.text(b"okiba-preload")
    return Telemetry(
        state=answer.text(b"okiba-state"),
        running=answer.text(b"okiba-running"),
        log_from=answer.number(b"okiba-log-from"),
        log_dropped=answer.number(b"okiba-log-dropped"),
        log_time_ms=answer.number(b"okiba-log-time-ms"),
        log=answer.body,
        preload=tuple(preload.split(",")) if preload else (),
        exit=exit_report if isinstance(exit_report, dict) else None,
    )


class HttpSlot:
    """A specialised slot, connected: `ports.Slot`.

    Args:
        on_telemetry: Told each beat that carries log bytes or modules to preload; False when the bytes could not be
            kept: they are asked for again.
        on_dead: Told once when the slot can take no more invocations.
        fleet_s: How long the fleet may take to say why a slot has ended whose agent cannot tell: a container that has
            run out of memory is killed with its agent.
    """

    def __init__(
        self,
        address: SlotAddress,
        grant: str,
        on_telemetry: Callable[[HttpSlot, Telemetry], Awaitable[bool]],
        on_dead: Callable[[HttpSlot], None],
        fleet_s: float = 0.0,
    ) -> None:
        self.id = address.id
        self.revision = address.revision
        self.address = address
        self.dead = False
        self.invoked = False
        self.greeting = Greeting("", 0, None, ())
        self._grant = grant
        self._on_telemetry = on_telemetry
        self._on_dead = on_dead
        self._connection: SlotConnection | None = None
        self._fleet_s = fleet_s
        self._gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._exit: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._follower: asyncio.Task[None] | None = None
        self._log_offset = 0

    @property
    def ended(self) -> bool:
        """Its agent has told how its processes ended: nothing runs in it."""
        return self._gone.done() or (self._exit.done() and self._exit.exception() is None)

    async def open(self, epoch: int, specialization: Mapping[str, Any] | None, init_s: float) -> Greeting:
        """Connects, and specialises first if told how; the slot counts from its worker's greeting.

        Args:
            specialization: None for a slot that has been specialised in an earlier life of this gateway.
            init_s: Seconds that the greeting may take: the init phase's limit, or a running handler's rest.

        Raises:
            SlotLost: It is gone, refuses, or does not greet in time.
        """
        control, connection = await _connect_twice(self.address.address)
        try:
            return await self._opened(control, connection, epoch, specialization, init_s)
        except BaseException:
            connection.close()
            self._let_go(control)
            raise

    async def _opened(
        self,
        control: SlotConnection,
        connection: SlotConnection,
        epoch: int,
        specialization: Mapping[str, Any] | None,
        init_s: float,
    ) -> Greeting:
        self.invoked = specialization is None  # an adopted slot's first call here is no cold start
        if specialization is not None:
            fetches = "url" in specialization["code"]  # then it answers when it has the code, or init's time is over
            request = wire.specialize_request(specialization)
            answer = await _asked(control, request, init_s if fetches else CONNECT_S)
            if answer.status != 200:
                control.close()
                connection.close()
                return self._refused(answer)
        self._follower = asyncio.create_task(self._follow(control), name=f"telemetry {self.id}")
        try:
            answer = await _asked(connection, wire.connect_request(epoch, self._grant), init_s)
        except SlotLost:
            answer = await self._init_failure()
        if answer.status != 200:
            raise SlotLost(f"slot {self.id} refuses the connection: {answer.body[:300]!r}")
        self._connection = connection
        connection.on_close = self._died
        kept = answer.text(b"okiba-outcomes")
        self.greeting = Greeting(
            worker=answer.text(b"okiba-worker"),
            init_us=answer.number(b"okiba-init-us"),
            init_error=answer.body if answer.text(b"okiba-init") == "error" else None,
            outcomes=tuple(kept.split(",")) if kept else (),
        )
        if self.greeting.init_error is not None or connection.closed:
            self._died()
        return self.greeting

    def _refused(self, answer: wire.Answer) -> Greeting:
        """What it means that the slot would not be specialised: a package that it refuses, every slot will."""
        if answer.status != 400 or b'"Okiba.BadPackage"' not in answer.body:
            raise SlotLost(f"slot {self.id} refuses to specialise: {answer.body[:300]!r}")
        self.greeting = Greeting("", 0, answer.body, ())
        self._died()
        return self.greeting

    async def _init_failure(self) -> wire.Answer:
        """The greeting that a worker would have sent had its init phase not killed it."""
        report = await self._exit_report()
        if report is None or _by_platform(report) or not isinstance(report.get("error"), dict):
            raise SlotLost(f"slot {self.id} died before its worker greeted")
        return wire.Answer(200, {b"okiba-init": b"error"}, json.dumps(report["error"]).encode())

    async def invoke(self, invocation: Invocation, timeout_ms: int) -> Outcome:
        """Runs it; every way it can end is an Outcome."""
        connection = self._connection
        if connection is None or self.dead:
            return self._unstarted("the slot was dead before the invocation reached it")
        request = wire.invocation_request(invocation, timeout_ms, int(time.time() * 1000))
        begun_s = time.monotonic()
        try:
            answer = await connection.ask(request, timeout_ms / 1000 + OVERTIME_S)
            if answer.status == wire.LEAVING:
                self._died()
                return self._unstarted("the slot was told to leave")
            return self._outcome(invocation, answer)
        except TimeoutError:
            self._died()
            return _function_error(self.id, timed_out(invocation.request_id, timeout_ms), begun_s)
        except wire.ProtocolError as error:
            self._died()
            return self._lost(str(error))
        except SlotLost as error:
            self._died()
            return await self._explained(invocation.request_id, str(error), begun_s)

    async def collect(self, kept: str) -> Outcome | None:
        """The outcome that the worker kept of an attempt asked for in an earlier life; None if it has none."""
        if self._connection is None:
            return None
        try:
            answer = await self._connection.ask(wire.outcome_request(kept), CONNECT_S)
            return _read_outcome(self.id, answer, None) if answer.status == 200 else None
        except (SlotLost, TimeoutError, wire.ProtocolError):
            return None

    def _outcome(self, invocation: Invocation, answer: wire.Answer) -> Outcome:
        if answer.headers.get(b"okiba-request-id") != invocation.request_id.encode():
            raise wire.ProtocolError(f"answer to {answer.text(b'okiba-request-id')!r}, not to {invocation.request_id}")
        init_us = None
        if not self.invoked:
            self.invoked = True
            init_us = self.greeting.init_us
        return _read_outcome(self.id, answer, init_us)

    async def _explained(self, request_id: str, reason: str, begun_s: float) -> Outcome:
        report = await self._exit_report()
        if report is None and await self._ran_out_of_memory():
            return _function_error(self.id, out_of_memory(request_id), begun_s)
        if report is not None and "last_request_id" in report and report["last_request_id"] != request_id:
            # A worker that died before it had the invocation did not die of it.
            return self._unstarted(reason)
        if report is None or report.get("request_id") != request_id or _by_platform(report):
            return self._lost(reason)
        if not isinstance(report.get("error"), dict):
            return self._lost(reason)
        peak = report.get("peak_memory_kb")
        return _function_error(self.id, report["error"], begun_s, peak if isinstance(peak, int) else 0)

    def told_gone(self, reason: str) -> None:
        """The fleet says that the slot's processes have ended, and why."""
        if not self._gone.done():
            self._gone.set_result(reason)

    async def _ran_out_of_memory(self) -> bool:
        try:
            async with asyncio.timeout(self._fleet_s):
                return is_out_of_memory(await asyncio.shield(self._gone))
        except TimeoutError:
            return False

    async def _exit_report(self) -> Mapping[str, Any] | None:
        try:
            async with asyncio.timeout(REPORT_S):
                return await asyncio.shield(self._exit)
        except (TimeoutError, PlatformError):
            return None

    def _lost(self, reason: str) -> Outcome:
        error = {"errorType": "Okiba.SlotLost", "errorMessage": f"slot {self.id}: {reason}"}
        return Outcome(
            Ending.PLATFORM_FAILURE, json.dumps(error).encode(), "Okiba.SlotLost", lost_slot=True, slot=self.id
        )

    def _unstarted(self, reason: str) -> Outcome:
        return self._lost(reason)._replace(lost_slot=False, unstarted=True)

    async def log_tail(self, offset: int) -> bytes:
        """The end of what the slot has written since `offset`, right now; for X-Amz-Log-Type: Tail."""
        end = b""
        try:
            connection = await connect(self.address.address)
            for _ in range(MAX_TAIL_PAGES):
                beat = _telemetry(await _asked(connection, wire.telemetry_request(self._grant, offset, 0), CONNECT_S))
                if not beat.log:
                    break
                end = (end + beat.log)[-TAIL_BYTES:]
                offset = beat.log_from + len(beat.log)
            connection.close()
        except PlatformError:
            return end
        return end

    @property
    def log_offset(self) -> int:
        """Where the log followed so far ends."""
        return self._log_offset

    async def _follow(self, connection: SlotConnection) -> None:
        """Asks for beats until the slot is dead and its last log line has been read."""
        try:
            while True:
                request = wire.telemetry_request(self._grant, self._log_offset, BEAT_MS)
                beat = _telemetry(await _asked(connection, request, SILENCE_S))
                if beat.exit is not None:
                    self._exited(beat.exit)
                told = beat.log or beat.log_dropped or beat.preload
                if not told or await self._on_telemetry(self, beat):
                    self._log_offset = beat.log_from + len(beat.log)
                else:
                    await asyncio.sleep(LOG_PAUSE_S)
                if beat.exit is not None and not beat.log:
                    return
        except PlatformError as error:
            if not self._exit.done():
                self._exit.set_exception(error)
                self._exit.exception()  # nobody may be waiting
            self._died()

    def _exited(self, report: Mapping[str, Any]) -> None:
        if not self._exit.done():
            self._exit.set_result(report)
        self._died()

    def _died(self) -> None:
        if self.dead:
            return
        self.dead = True
        if self._connection is not None:
            self._connection.close()
        self._on_dead(self)

    async def shut_down(self) -> None:
        """Ends the slot's processes by asking its agent; the fleet's kill stands behind it."""
        try:
            connection = await connect(self.address.address)
            await _asked(connection, wire.shutdown_request(self._grant), CONNECT_S)
            connection.close()
        except PlatformError:
            return

    def release(self) -> None:
        """Lets go of the slot without ending it; its last log lines are still read."""
        self.dead = True
        if self._connection is not None:
            self._connection.on_close = None
            self._connection.close()
        if self._follower is not None:
            asyncio.get_running_loop().call_later(LAST_LINES_S, self._follower.cancel)

    def _let_go(self, control: SlotConnection) -> None:
        """Nothing more is asked; a slot that did not get ready has last log lines, which say why."""
        asyncio.get_running_loop().call_later(LAST_LINES_S if self._follower else 0, control.close)


def _by_platform(report: Mapping[str, Any]) -> bool:
    """Whether the slot was told to end: that is nobody's error but ours."""
    return report.get("reason") == "shutdown"


async def _asked(connection: SlotConnection, request: bytes, timeout_s: float) -> wire.Answer:
    try:
        return await connection.ask(request, timeout_s)
    except TimeoutError as error:
        raise SlotLost(f"the slot was silent for {timeout_s:g} s") from error


def _read_outcome(slot: str, answer: wire.Answer, init_us: int | None) -> Outcome:
    failed = b"x-amz-function-error" in answer.headers
    return Outcome(
        ending=Ending.FUNCTION_ERROR if failed else Ending.SUCCEEDED,
        payload=answer.body,
        error_type=answer.text(b"okiba-error-type") if failed else "",
        duration_us=answer.number(b"okiba-duration-us"),
        init_us=init_us,
        peak_memory_kb=answer.number(b"okiba-memory-kb"),
        slot=slot,
    )


def _function_error(slot: str, error: Mapping[str, Any], begun_s: float, peak_memory_kb: int = 0) -> Outcome:
    """The end of an attempt whose worker could not tell it; how long it took is known from outside alone."""
    return Outcome(
        Ending.FUNCTION_ERROR,
        json.dumps(error).encode(),
        str(error.get("errorType", "")),
        duration_us=int((time.monotonic() - begun_s) * 1e6),
        peak_memory_kb=peak_memory_kb,
        slot=slot,
    )


def out_of_memory(request_id: str) -> dict[str, str]:
    """The error JSON of an invocation whose slot's container was killed for its memory, as its agent would tell it."""
    return {
        "errorType": "Runtime.OutOfMemory",
        "errorMessage": f"RequestId: {request_id} Error: Runtime exited with error: signal: killed",
    }


def timed_out(request_id: str, timeout_ms: int) -> dict[str, str]:
    """The error JSON of an invocation that ran out of time."""
    seconds = f"{timeout_ms / 1000:.2f} seconds"
    return {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after {seconds}",
    }
