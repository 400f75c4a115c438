"""The lines that Lambda itself writes into a function's log, and the texts of deaths that it reports.

The worker writes them for invocations that end by themselves, the agent for those that it or the kernel ended.

Source:
    Lambda's logs as recorded; the signal names are those of Go's syscall.Signal, which Lambda prints.
"""

from __future__ import annotations

import time

_SIGNALS = {1: "hangup", 2: "interrupt", 3: "quit", 4: "illegal instruction", 5: "trace/breakpoint trap",
            6: "aborted", 7: "bus error", 8: "floating point exception", 9: "killed", 11: "segmentation fault",
            13: "broken pipe", 14: "alarm clock", 15: "terminated"}  # fmt: skip


def start(request_id: str, version: str) -> bytes:
    """The line before an invocation's output."""
    return f"START RequestId: {request_id} Version: {version}\n".encode()


def end(
    request_id: str, duration_us: int, memory_mb: int, peak_kb: int, init_us: int | None, status: str = ""
) -> bytes:
    """The two lines behind an invocation's output.

    Args:
        init_us: Time of the init phase on the slot's first invocation, else None; it is billed with it.
        status: `timeout`, or `error` with the error's type, of an invocation that did not come to its end.
    """
    billed_ms = -(-(duration_us + (init_us or 0)) // 1000)
    init = "" if init_us is None else f"Init Duration: {init_us / 1000:.2f} ms\t"
    return (
        f"END RequestId: {request_id}\n"
        f"REPORT RequestId: {request_id}\tDuration: {duration_us / 1000:.2f} ms\tBilled Duration: {billed_ms} ms\t"
        f"Memory Size: {memory_mb} MB\tMax Memory Used: {peak_kb // 1024} MB\t{init}{status}\n"
    ).encode()


def init_report(init_us: int, status: str) -> bytes:
    """The line behind an init phase that failed."""
    return f"INIT_REPORT Init Duration: {init_us / 1000:.2f} ms\tPhase: init\t{status}\n".encode()


def timed_out(seconds: float) -> str:
    """Lambda's words for a deadline that passed."""
    return f"Task timed out after {seconds:.2f} seconds"


def exited(exit_code: int | None, signal_number: int | None) -> str:
    """Lambda's words for a runtime that is gone."""
    if signal_number is not None:
        return f"Runtime exited with error: signal: {_SIGNALS.get(signal_number, f'signal {signal_number}')}"
    if exit_code:
        return f"Runtime exited with error: exit status {exit_code}"
    return "Runtime exited without providing a reason"


def iso(time_s: float) -> str:
    """UTC with milliseconds."""
    whole, fraction = divmod(time_s, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(fraction * 1000):03d}Z"
