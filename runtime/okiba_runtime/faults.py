"""Errors of a function as Lambda tells them: the JSON, the traceback without our own frames, the log lines.

Source:
    awslambdaric's bootstrap.py: make_error, build_fault_result, log_error.
"""

from __future__ import annotations

import json
import os
import traceback
from dataclasses import dataclass, field
from types import TracebackType

_RUNTIME = os.path.dirname(__file__) + os.sep

# An error is told to the caller, in a header and in the log; none of them is a place for megabytes.
_MAX_MESSAGE = 256 * 1024
_MAX_FRAMES = 100

_NO_BREAK_SPACE = "\u00a0"


class Fault(Exception):
    """What the runtime itself finds wrong with a function: a handler that is missing, a result that is not JSON.

    Args:
        kind: AWS's name, such as `Runtime.HandlerNotFound`.
        trace: Lines for `stackTrace`.
        bare: On Lambda the platform says this, not the runtime: no `requestId`, no `stackTrace`, no log lines.
    """

    def __init__(self, kind: str, message: str, trace: tuple[str, ...] = (), *, bare: bool = False) -> None:
        super().__init__(message)
        self.kind, self.trace, self.bare = kind, trace, bare


@dataclass(frozen=True, slots=True)
class Failure:
    """How an invocation, or an init phase, failed.

    Args:
        request_id: Empty for the init phase.
        bare: See `Fault`.
    """

    kind: str
    message: str
    trace: list[str] = field(default_factory=list)
    request_id: str = ""
    bare: bool = False

    def json(self) -> bytes:
        """AWS's error JSON."""
        if self.bare:
            return json.dumps({"errorType": self.kind, "errorMessage": self.message}).encode()
        fields = {"errorMessage": self.message, "errorType": self.kind, "requestId": self.request_id}
        return json.dumps({**fields, "stackTrace": self.trace}).encode()

    def log_text(self) -> str:
        """`[ERROR] Type: message` and the traceback, indented with no-break spaces so that log viewers keep it."""
        lines = [f"[ERROR] {self.kind}: {self.message}" if self.message else f"[ERROR] {self.kind}"]
        lines.append("Traceback (most recent call last):")
        for element in self.trace:
            lines += [_indented(line) for line in element.splitlines()] or [""]
        return "\n".join(lines) + "\n"


def failure_of(error: BaseException, request_id: str) -> Failure:
    """The failure that this exception, caught in our own frame, stands for."""
    if isinstance(error, Fault):
        return Failure(error.kind, str(error), list(error.trace), request_id, error.bare)
    return Failure(type(error).__name__, _message(error), _user_frames(error.__traceback__), request_id)


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_MESSAGE]
    except Exception as another:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(error).__name__}: its __str__ raised {type(another).__name__}>"


def _user_frames(trace: TracebackType | None) -> list[str]:
    frames = [(frame.filename, frame.lineno or 0, frame.name, frame.line) for frame in traceback.extract_tb(trace)]
    ours = 0
    while ours < len(frames) and frames[ours][0].startswith(_RUNTIME):
        ours += 1
    lines = traceback.format_list(frames[ours:])
    if len(lines) > 2 * _MAX_FRAMES:
        left_out = f"  [{len(lines) - 2 * _MAX_FRAMES} frames left out]\n"
        return [*lines[:_MAX_FRAMES], left_out, *lines[-_MAX_FRAMES:]]
    return lines


def _indented(line: str) -> str:
    text = line.lstrip(" ")
    return _NO_BREAK_SPACE * (len(line) - len(text)) + text
