"""How a slot's worker can end, and what is said about it: Okiba-Exit's JSON and the log's last lines. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from okiba_runtime import platform_lines

# Okiba-Exit is a header, and a head has at most 16 KiB.
_MAX_ERROR = 8 * 1024


@dataclass(frozen=True, slots=True)
class Ending:
    """What the agent knows when the worker is gone.

    Args:
        reason: PROTOCOL.md's: timeout, init_timeout, out_of_memory, exit, signal, init_error, shutdown.
        request_id: Of the invocation that ran; None between invocations.
        limit_ms: The time that was allowed, for the two timeouts.
        init_failure: The error JSON of an init phase that failed.
    """

    reason: str
    request_id: str | None
    exit_code: int | None = None
    signal: int | None = None
    limit_ms: int = 0
    init_failure: bytes = b""

    @property
    def error_type(self) -> str:
        """AWS's name for it."""
        if self.reason in {"timeout", "init_timeout"}:
            return "Sandbox.Timedout"
        return "Runtime.OutOfMemory" if self.reason == "out_of_memory" else "Runtime.ExitError"

    @property
    def message(self) -> str:
        """AWS's words, without the request id."""
        if self.reason in {"timeout", "init_timeout"}:
            return platform_lines.timed_out(self.limit_ms / 1000)
        signal = 9 if self.reason == "out_of_memory" else self.signal
        return platform_lines.exited(self.exit_code, signal)

    def error_json(self) -> bytes:
        """What the invocation ends with; between invocations the part before `Error:` is missing."""
        if self.init_failure:
            return self.init_failure
        whose = f"RequestId: {self.request_id} " if self.request_id else ""
        return json.dumps({"errorType": self.error_type, "errorMessage": f"{whose}Error: {self.message}"}).encode()

    def report_json(self, peak_kb: int, last_request_id: str) -> bytes:
        """Okiba-Exit's value.

        Args:
            last_request_id: Of the last invocation that was begun, whether it was ended or not; empty: none was.
        """
        fields = {
            "reason": self.reason,
            "request_id": self.request_id,
            "last_request_id": last_request_id,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "peak_memory_kb": peak_kb,
            "error": _shortened(json.loads(self.error_json())),
        }
        return json.dumps(fields).encode()

    @property
    def status(self) -> str:
        """The end of the REPORT line."""
        return "Status: timeout" if "timeout" in self.reason else f"Status: error\tError Type: {self.error_type}"

    def first_line(self, now_s: float) -> bytes:
        """What Lambda logs before END."""
        if self.reason == "timeout":
            return f"{platform_lines.iso(now_s)} {self.request_id} {self.message}\n\n".encode()
        whose = f"RequestId: {self.request_id} " if self.request_id else ""
        return f"{whose}Error: {self.message}\n{self.error_type}\n".encode()


def _shortened(error: dict[str, object]) -> dict[str, object]:
    """The error fits into a header; the greeting tells an init error whole."""
    if len(json.dumps(error)) > _MAX_ERROR:
        # A character takes up to 12 bytes as JSON's escapes.
        message = str(error.get("errorMessage"))[: _MAX_ERROR // 16]
        return {**error, "errorMessage": message, "stackTrace": []}
    return error
