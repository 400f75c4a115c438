"""What an agent knows of its slot: a state machine fed with notices and endings. No I/O; `now` is an argument."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from okiba_runtime import notices, platform_lines
from okiba_runtime.endings import Ending
from okiba_runtime.order import Order

WARM: Final = "warm"
FETCHING: Final = "fetching"
INIT: Final = "init"
IDLE: Final = "idle"
BUSY: Final = "busy"
EXITED: Final = "exited"

# An `end` without a `start`, or a `start` in the middle of another, is a handler writing into our pipe: ignored.
TRANSITIONS: Final = {
    (WARM, "specialize"): INIT,
    (WARM, "promise"): FETCHING,
    (FETCHING, "fetched"): INIT,
    (FETCHING, "unfetched"): WARM,
    (INIT, "init"): IDLE,
    (INIT, "failed"): IDLE,
    (IDLE, "start"): BUSY,
    (BUSY, "end"): IDLE,
}


@dataclass(frozen=True, slots=True)
class Running:
    """The invocation in the handler, or (without an id) fetching or the init phase; times on the monotonic clock."""

    request_id: str
    started_us: int
    timeout_us: int

    @property
    def deadline_us(self) -> int:
        """When it is killed."""
        return self.started_us + self.timeout_us


class Slot:
    """One slot's life."""

    def __init__(self) -> None:
        self.state = WARM
        self.order: Order | None = None
        self.promised: Order | None = None
        """Whose the slot will be when its parts have been fetched."""
        self.fetch_error: dict[str, str] = {}
        self.epoch = -1
        self.running: Running | None = None
        self.peak_kb = 0
        self.modules = b""
        self.kept = 0
        """Outcomes of former holders' that the worker was last known to keep."""
        self.ending: Ending | None = None
        self.last_request_id = ""
        self._init_us: int | None = None
        self._init_failure = b""

    def specialize(self, order: Order, now_us: int) -> None:
        """The slot is this function's from now on."""
        self.order, self.epoch = order, order.epoch
        self.state = TRANSITIONS[self.state, "specialize"]
        self.running = Running("", now_us, order.init_ms * 1000)

    def promise(self, order: Order, now_us: int, patience_us: int) -> None:
        """The slot is this function's as soon as the worker has fetched what the order names.

        Args:
            patience_us: How much longer than the order allows that may take before it is overdue.
        """
        self.promised, self.fetch_error = order, {}
        self.state = TRANSITIONS[self.state, "promise"]
        self.running = Running("", now_us, order.init_ms * 1000 + patience_us)

    @property
    def request_id(self) -> str:
        """Of the invocation that runs; empty when none does."""
        return self.running.request_id if self.running else ""

    @property
    def initialising(self) -> bool:
        """Whether the init phase runs."""
        return self.state == INIT

    def note_all(self, lines: list[bytes]) -> None:
        """Takes in notices, oldest first; of a hundred invocations since the last look only the newest matters."""
        calls = [index for index, line in enumerate(lines) if line.startswith((b"start ", b"end "))]
        passed_over = set(calls[:-2])  # the last two say what runs now, whatever ran before them
        for index, line in enumerate(lines):
            if index not in passed_over:
                self.note(line)
        begun = next((lines[index] for index in reversed(calls) if lines[index].startswith(b"start ")), b"")
        if parsed := notices.parse(begun):
            self.last_request_id = parsed[1][0].decode("latin-1")

    def note(self, line: bytes) -> None:
        """Takes in a notice of the worker's."""
        parsed = notices.parse(line)
        if parsed is None:
            return
        word, arguments = parsed
        if word == "modules":
            self.modules = arguments[0]
            return
        if word == "kept":
            self.kept = int(arguments[0])
            return
        state = TRANSITIONS.get((self.state, word))
        if state is None or (word == "failed" and _json_object(arguments[1]) is None):
            return
        if word in {"fetched", "unfetched"}:
            self._keep_promise(word, arguments[0])
            return
        self.state = state
        if word == "start":
            self.last_request_id = arguments[0].decode("latin-1")
            self.running = Running(self.last_request_id, int(arguments[1]), int(arguments[2]))
            return
        self.running = None
        if word == "end":
            self.peak_kb = max(self.peak_kb, int(arguments[1]))
            self._init_us = None  # its REPORT has told it
        else:
            self._init_us = int(arguments[0])
            self._init_failure = arguments[1] if word == "failed" else b""

    def _keep_promise(self, word: str, argument: bytes) -> None:
        order, self.promised = self.promised, None
        self.state, self.running = WARM, None
        if word == "fetched" and order:
            self.specialize(order, int(argument))
        else:
            self.fetch_error = _json_object(argument) or {"errorType": "Okiba.FetchFailed", "errorMessage": "unknown"}

    def overdue(self, now_us: int) -> Ending | None:
        """The ending that is due because the time allowed is over, if it is."""
        if self.running is None or now_us < self.running.deadline_us:
            return None
        limit_ms = self.running.timeout_us // 1000
        if self.state == FETCHING:  # the worker hangs where it cannot even give up
            return Ending("shutdown", None)
        if self.initialising:
            return Ending("init_timeout", None, limit_ms=limit_ms)
        return Ending("timeout", self.request_id, limit_ms=limit_ms)

    def out_of_memory(self) -> Ending:
        """The ending of a tree that used more than it may."""
        return Ending("out_of_memory", self.request_id or None, signal=9)

    def gone(self, exit_code: int, *, for_memory: bool) -> Ending:
        """The ending of a worker that ended by itself (a negative code: by that signal)."""
        if self._init_failure:
            return Ending("init_error", None, exit_code, init_failure=self._init_failure)
        if for_memory and exit_code < 0:
            return self.out_of_memory()
        if exit_code < 0:
            return Ending("signal", self.request_id or None, signal=-exit_code)
        return Ending("exit", self.request_id or None, exit_code)

    def end(self, ending: Ending, now_us: int, wall_s: float, *, open_line: bool) -> bytes:
        """The slot has ended so; returns the log's last lines."""
        self.state, self.ending = EXITED, ending
        running, self.running = self.running, None
        if self.order is None or ending.reason in {"shutdown", "init_error"}:
            return b""
        lines = (b"\n" if open_line else b"") + ending.first_line(wall_s)
        if running is None:
            return lines
        duration_us = min(now_us - running.started_us, running.timeout_us)
        if not running.request_id:
            return lines + platform_lines.init_report(duration_us, f"{ending.status}")
        return lines + platform_lines.end(
            running.request_id, duration_us, self.order.memory_mb, self.peak_kb, self._init_us, ending.status
        )


def _json_object(raw: bytes) -> dict[str, str] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
