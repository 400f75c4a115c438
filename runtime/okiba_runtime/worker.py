"""The worker: imports the handler, then answers one data connection at a time.

The loop stands on the hot path of every call, hence its style: blocking sockets, no objects where a local does, six
system calls an invocation (two notices, two log writes, one receive, one send).
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from types import ModuleType
from typing import NoReturn

from okiba_runtime import environment, notices, output, platform_lines, shadows, wire
from okiba_runtime.context import ClientContext, LambdaContext
from okiba_runtime.faults import Failure, Fault, failure_of
from okiba_runtime.loader import Handler, load
from okiba_runtime.order import Order
from okiba_runtime.outcomes import Outcomes
from okiba_runtime.pipes import WorkerEnds
from okiba_runtime.results import to_json
from okiba_runtime.system import moved_high

_INVOKE = b"/2015-03-31/functions/function/invocations"
_OUTCOME = b"/okiba/v1/outcomes/"

# AWS's 6 MiB of request and the room that an asynchronous envelope takes.
MAX_EVENT = 6 * 1024 * 1024 + 100 * 1024

# Of an exception's class name, in a header; the answer's body has it whole.
MAX_KIND = 256

_OPENINGS = frozenset('{["0123456789tfn-')
_decoder = json.JSONDecoder()


class Stage:
    """What a worker needs and no order changes, so that it can be there before the order: streams and logging."""

    def __init__(self) -> None:
        self.output = output.Output()
        self.log_ids = output.install_logging()


class Worker:
    """One function in one process."""

    def __init__(self, order: Order, ends: WorkerEnds, stage: Stage) -> None:
        self.order = order
        self.id = os.urandom(16).hex()
        self.outcomes = Outcomes()
        self._control = socket.socket(fileno=ends.control)
        self._log, self._notices = ends.log, ends.notices
        self._output, self._log_ids = stage.output, stage.log_ids
        self._data: socket.socket | None = None
        self._handler: Handler | None = None
        self._init_us = 0
        self._init_failure = b""
        self._untold_init_us: int | None = None
        self._loaded: tuple[str, ...] = ()
        self._leaving = False
        self._traced = False
        self._pid = os.getpid()

    def initialise(self) -> None:
        """Imports the handler; a failure of it is kept for the greeting."""
        os.register_at_fork(after_in_child=self._let_go)
        began = time.monotonic_ns()
        failure = self._load()
        self._init_us = self._untold_init_us = (time.monotonic_ns() - began) // 1000
        self._leave_if_forked()
        missing = self._output.settle()
        if failure:
            status = f"Status: error\tError Type: {failure.kind}"
            output.write_whole(self._log, missing + platform_lines.init_report(self._init_us, status))
            output.write_whole(self._notices, notices.failed(self._init_us, self._init_failure))
            return
        output.write_whole(self._log, missing)
        os.write(self._notices, notices.init(self._init_us))
        if self.order.layers or self.order.packages:
            self._loaded = tuple(sys.modules)

    def _load(self) -> Failure | None:
        try:
            self._handler = load(self.order.handler)
        except Exception as error:  # noqa: BLE001 - whatever the user's module raises
            failure = failure_of(error, "")
            self._init_failure = failure.json()
            self._output.tell(self._log, failure.log_text())
            return failure
        return None

    def serve(self) -> None:
        """Serves data connections, one after the other, until it is told to leave and nothing is left to collect."""
        while connection := self._next_connection():
            self._data = connection
            try:
                self._data.sendall(self._greeting())
                if self._init_failure:
                    self._data.shutdown(socket.SHUT_WR)
                    return
                self._tell_kept()
                self._answer_all(self._data)
            except OSError:  # the agent has shut it down: somebody else holds the slot now; or its other side is gone
                continue
            except wire.Malformed as error:
                self._refuse(self._data, error)
            finally:
                self._data.close()

    def _next_connection(self) -> socket.socket | None:
        while not self._leaving or self.outcomes:
            word, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
            if descriptors:
                return socket.socket(fileno=moved_high(descriptors[0]))
            if not word:
                return None
            self._leaving = True
            self._tell_kept()
        return None

    def _tell_kept(self) -> None:
        if self.outcomes:
            os.write(self._notices, notices.kept(len(self.outcomes)))

    def _greeting(self) -> bytes:
        headers = [
            ("Okiba-Worker", self.id),
            ("Okiba-Init", "error" if self._init_failure else "ok"),
            ("Okiba-Init-Us", str(self._init_us)),
        ]
        if self.outcomes:
            headers.append(("Okiba-Outcomes", ",".join(self.outcomes.request_ids)))
        return wire.response(200, headers, self._init_failure)

    def _refuse(self, data: socket.socket, error: wire.Malformed) -> None:
        try:
            data.sendall(_error(400, "Okiba.BadRequest", str(error)))
            data.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def _answer_all(self, data: socket.socket) -> None:
        receive = data.recv
        while True:
            head = receive(65536)
            if not head:
                return
            end = head.find(wire.END_OF_HEAD)
            while end < 0:
                if len(head) >= wire.MAX_HEAD:
                    raise wire.head_too_long()
                more = receive(65536)
                if not more:
                    return
                head += more
                end = head.find(wire.END_OF_HEAD)
            method, target, headers = wire.parse_head(head[:end])
            body = head[end + 4 :]
            length = wire.body_length(headers, MAX_EVENT)
            if len(body) != length:
                body = _rest(data, body, length)
            if method == b"POST" and target == _INVOKE and not self._leaving:
                try:
                    answer = self._invoke(headers, body)
                except OSError as error:  # not the connection's: whoever waits would never hear of it
                    raise SystemExit(1) from error
            else:
                answer = self._other_call(method, target)
            data.sendall(answer)
            if self._leaving and not self.outcomes:
                return
            if self._loaded:
                self._tell_modules()

    def _other_call(self, method: bytes, target: bytes) -> bytes:
        if target == _INVOKE and method == b"POST":
            return _error(503, "Okiba.Leaving", "the slot was told to leave; it only hands over what it keeps")
        if method != b"GET" or not target.startswith(_OUTCOME):
            return _error(404, "Okiba.UnknownCall", f"{method.decode('latin-1')} {target.decode('latin-1')}")
        request_id = target[len(_OUTCOME) :].decode("latin-1")
        answer = self.outcomes.take(request_id)
        if answer:
            os.write(self._notices, notices.kept(len(self.outcomes)))
        return answer or _error(404, "Okiba.NoOutcome", f"no outcome of {request_id} is kept")

    def _invoke(self, headers: dict[bytes, bytes], body: bytes) -> bytes:
        began_us = time.monotonic_ns() // 1000
        raw_id, timeout_us = _identity(headers)
        request_id = raw_id.decode()
        os.write(self._notices, b"start %b %d %b\n" % (raw_id, began_us, timeout_us))
        os.write(self._log, platform_lines.start(request_id, self.order.version))
        self._log_ids.request_id = request_id
        trace_id = headers.get(b"lambda-runtime-trace-id")
        if trace_id or self._traced:
            self._trace(trace_id)
        try:
            result, failed = self._result(request_id, headers, body), b""
        except Exception as error:  # noqa: BLE001 - whatever the user's handler raises
            result, failed = self._told(failure_of(error, request_id))
        self._leave_if_forked()
        self._log_ids.request_id = ""
        return self._settled(headers, raw_id, began_us, result, failed)

    def rehearse(self, handler: Handler, head: bytes) -> None:
        """Does what the first call will make it do, see `rehearsal`."""
        self._handler = handler
        self._greeting()
        self._loaded = tuple(sys.modules)
        self._invoke(wire.parse_head(head)[2], b'{"key": [1, 2.5, "value", null, true]}')
        self._control.close()

    def _result(self, request_id: str, headers: dict[bytes, bytes], body: bytes) -> bytes:
        event = _event(body)
        context = LambdaContext(
            self.order,
            request_id,
            headers[b"lambda-runtime-invoked-function-arn"].decode(),
            int(headers[b"lambda-runtime-deadline-ms"]),
            _client_context(headers.get(b"lambda-runtime-client-context")),
        )
        return to_json(self._handler(event, context))  # type: ignore[misc]

    def _settled(
        self, headers: dict[bytes, bytes], raw_id: bytes, began_us: int, result: bytes, failed: bytes
    ) -> bytes:
        """The answer, after everything that must be known before it: log lines, notice, outcome."""
        missing = self._output.settle()
        duration_us = time.monotonic_ns() // 1000 - began_us
        peak_kb = output.peak_kb()
        init_us, self._untold_init_us = self._untold_init_us, None
        lines = platform_lines.end(raw_id.decode(), duration_us, self.order.memory_mb, peak_kb, init_us)
        output.write_whole(self._log, missing + lines)
        os.write(self._notices, b"end %b %d\n" % (raw_id, peak_kb))
        answer = (
            b"HTTP/1.1 200 OK\r\nOkiba-Request-Id: %b\r\nOkiba-Duration-Us: %d\r\nOkiba-Memory-Kb: %d\r\n%b"
            b"Content-Length: %d\r\n\r\n%b" % (raw_id, duration_us, peak_kb, failed, len(result), result)
        )
        settled = headers.get(b"okiba-settled")
        if settled:
            self.outcomes.drop(settled.decode("latin-1").split(","))
        tag = headers.get(b"okiba-keep")
        if tag:
            self.outcomes.keep(f"{raw_id.decode()}.{tag.decode('latin-1')}", answer)
        return answer

    def _told(self, failure: Failure) -> tuple[bytes, bytes]:
        """The error as the answer's body and as its headers; it is in the log."""
        if not failure.bare:
            self._output.tell(self._log, failure.log_text())
        kind = "".join(letter for letter in failure.kind[:MAX_KIND] if letter.isprintable()).encode("ascii", "replace")
        return failure.json(), b"X-Amz-Function-Error: Unhandled\r\nOkiba-Error-Type: %b\r\n" % kind

    def _trace(self, trace_id: bytes | None) -> None:
        self._traced = trace_id is not None
        if trace_id is None:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        else:
            os.environ["_X_AMZN_TRACE_ID"] = trace_id.decode("latin-1")

    def _tell_modules(self) -> None:
        """Told after the first answer, so that nobody waits for it."""
        names = shadows.loaded_from(self._loaded, (*self.order.layers, *self.order.packages))
        self._loaded = ()
        output.write_whole(self._notices, notices.modules(names))

    def _let_go(self) -> None:
        """In a process that the handler forked: the slot's connection and pipes are its parent's alone."""
        for descriptor in (self._control.detach(), self._log, self._notices, self._data.detach() if self._data else -1):
            try:
                os.close(descriptor)
            except OSError:
                continue

    def _leave_if_forked(self) -> None:
        if os.getpid() != self._pid:
            self._output.settle()
            os._exit(0)

    def finish(self, code: int) -> NoReturn:
        """Ends the process, without waiting for threads that the handler left behind."""
        self._output.settle()
        os._exit(code)


def main(order: Order, ends: WorkerEnds, stage: Stage, preloaded: tuple[str, ...] = ()) -> NoReturn:
    """A process becomes this order's worker.

    Args:
        preloaded: Folders that way has been made for, see `preload`.
    """
    os.setsid()
    worker = Worker(order, ends, stage)
    code = 1
    try:
        _settle_in(order, preloaded)
        worker.initialise()
        worker.serve()
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:  # noqa: BLE001 - the process's last loop
        sys.excepthook(*sys.exc_info())
    worker.finish(code)


def give_way() -> None:
    """A worker that gets a call waits its turn instead of pushing the gateway, which just sent it, off its core.

    Its share of the processor stays the same.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        return


def _settle_in(order: Order, preloaded: tuple[str, ...]) -> None:
    """Everything about this process that a handler can see is the function's."""
    environment.become(environment.of_function(order))
    time.tzset()
    os.chdir(order.code)
    path = order.import_path()
    shadows.make_way(folder for folder in path if folder not in preloaded)
    sys.path[:] = path + [entry for entry in shadows.standard_path() if entry not in path]
    sys.argv[:] = [""]
    sys.modules["__main__"] = ModuleType("__main__")
    shadows.reseed()


def _identity(headers: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    request_id = headers.get(b"lambda-runtime-aws-request-id", b"")
    timeout_us = headers.get(b"okiba-timeout-us", b"")
    deadline_ms = headers.get(b"lambda-runtime-deadline-ms", b"")
    if not request_id or len(request_id) > 128 or b" " in request_id or not request_id.isascii():
        raise wire.Malformed(f"Lambda-Runtime-Aws-Request-Id must be 1 to 128 letters, got {request_id[:140]!r}")
    if not timeout_us.isdigit() or not deadline_ms.isdigit():
        raise wire.Malformed("Okiba-Timeout-Us and Lambda-Runtime-Deadline-Ms must be whole numbers")
    if b"lambda-runtime-invoked-function-arn" not in headers:
        raise wire.Malformed("Lambda-Runtime-Invoked-Function-Arn is missing")
    return request_id, timeout_us


def _event(body: bytes) -> object:
    try:
        return _decoded(body.decode()) if body else {}
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from error


def _decoded(text: str) -> object:
    # Without the library's two searches for surrounding white space, which hardly any event has.
    if text[0] in _OPENINGS:
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    return _decoder.decode(text)


def _client_context(raw: bytes | None) -> ClientContext | None:
    if not raw:
        return None
    try:
        fields = json.loads(raw)
        return None if fields is None else ClientContext(fields)
    except Exception as error:
        message = f"Unable to parse Client Context JSON: {error}"
        raise Fault("Runtime.LambdaContextUnmarshalError", message) from error


def _rest(data: socket.socket, begun: bytes, length: int) -> bytes:
    if len(begun) > length:
        raise wire.Malformed(f"{len(begun) - length} bytes behind the body; the answer was not awaited")
    whole = bytearray(length)
    whole[: len(begun)] = begun
    filled, view = len(begun), memoryview(whole)
    while filled < length:
        count = data.recv_into(view[filled:])
        if not count:
            raise ConnectionResetError("the connection ended within a body")
        filled += count
    return bytes(whole)


def _error(status: int, kind: str, message: str) -> bytes:
    return wire.response(status, [], json.dumps({"errorType": kind, "errorMessage": message}).encode())


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1
