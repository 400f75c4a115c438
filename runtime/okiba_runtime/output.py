"""The worker's standard streams and its `logging`, set up as Lambda's Python runtime does."""

from __future__ import annotations

import io
import logging
import os
import resource
import sys
import time


class Stream(io.TextIOWrapper):
    """Standard output or error: text leaves at each line's end; knows whether its last line is still open."""

    line_is_open = False

    def write(self, text: str) -> int:
        """As every text stream's."""
        if text:
            self.line_is_open = not text.endswith("\n")
        return super().write(text)


class Output:
    """Both standard streams, kept even when the handler puts others in their places.

    Everything goes through descriptors 1 and 2 into one pipe, so that the order written is the order read.
    """

    def __init__(self) -> None:
        self.streams = [_stream(1), _stream(2)]
        sys.stdout, sys.stderr = self.streams
        sys.__stdout__, sys.__stderr__ = self.streams  # type: ignore[misc]
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it stays open as long as the process

    def tell(self, log: int, text: str) -> None:
        """Writes text of the platform's own behind the handler's output, whatever the handler made of sys.stdout.

        Args:
            log: A descriptor of the same pipe that a handler who closes 1 and 2 does not know.
        """
        missing = self.settle()
        write_whole(log, (missing.decode() + text).encode("utf-8", "backslashreplace"))

    def settle(self) -> bytes:
        """Everything written so far is in the pipe; returns the line end that the last line lacks, if it does."""
        stdout, stderr = self.streams
        if sys.stdout is not stdout or sys.stderr is not stderr:
            _flush(sys.stdout)
            _flush(sys.stderr)
        _flush(stdout)
        _flush(stderr)
        if stdout.line_is_open or stderr.line_is_open:
            stdout.line_is_open = stderr.line_is_open = False
            return b"\n"
        return b""


def _flush(stream: object) -> None:
    # Twice an invocation: contextlib.suppress would cost more than the flush.
    try:  # noqa: SIM105
        stream.flush()  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001, S110 - closed, replaced, out of descriptors: the handler's own doing
        pass


def _stream(descriptor: int) -> Stream:
    # Unencodable text (an object key with a lone surrogate) is shown escaped: a print must not fail an invocation.
    file = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    return Stream(file, encoding="utf-8", errors="backslashreplace", line_buffering=True)


class LambdaLoggerHandler(logging.Handler):
    """The root logger's handler; writes into whatever `sys.stdout` is at that moment."""

    log_sink: LogSink

    def __init__(self) -> None:
        super().__init__()
        self.log_sink = LogSink()
        form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
        formatter = logging.Formatter(form, "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record."""
        self.log_sink.log(self.format(record))


class LogSink:
    """Where log records and `context.log` go."""

    def log(self, message: str) -> None:
        """Writes the text as it is."""
        sys.stdout.write(message)


class RequestIdFilter(logging.Filter):
    """Gives every record the request id of the invocation that runs; empty between invocations."""

    request_id = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record through."""
        record.aws_request_id = self.request_id
        return True


def install_logging() -> RequestIdFilter:
    """The root logger writes Lambda's lines; returns the part of it that must be told the request id."""
    request_id = RequestIdFilter()
    handler = LambdaLoggerHandler()
    handler.addFilter(request_id)
    logging.getLogger().addHandler(handler)
    return request_id


def write_whole(descriptor: int, body: bytes) -> None:
    """Writes all of it, waiting where the pipe is full."""
    while body:
        body = body[os.write(descriptor, body) :]


def peak_kb() -> int:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
