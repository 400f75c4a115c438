"""One call of a function: what is asked, and how an attempt at it ended."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Invocation(NamedTuple):
    """A call, synchronous or leased from a queue. A tuple, as every call makes one.

    Args:
        request_id: AWS's request id, a UUID; the same over all attempts.
        function: The function's name.
        payload: The event's JSON, byte for byte as the caller sent it; never empty (`{}` stands for nothing).
        invoked_arn: The ARN as invoked, qualifier kept.
        asynchronous: Its outcome must outlive the connection that asked for it.
        client_context: The decoded JSON of X-Amz-Client-Context, or empty.
        trace_id: X-Amzn-Trace-Id as passed to the worker.
        attempt: Which attempt at asynchronous work this is, from 1: what its kept outcome is told apart by.
    """

    request_id: str
    function: str
    payload: bytes
    invoked_arn: str
    asynchronous: bool = False
    client_context: bytes = b""
    trace_id: str = ""
    attempt: int = 1


class Ending(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FUNCTION_ERROR = "function_error"  # raised, timed out, out of memory, exited: uses up a retry
    PLATFORM_FAILURE = "platform_failure"  # slot lost, no slot: uses up none


class Outcome(NamedTuple):
    """What came of one attempt.

    Args:
        ending: Who is to blame, which decides about retries.
        payload: The handler's JSON result, or AWS's error JSON.
        error_type: `errorType` of a function error, empty otherwise.
        lost_slot: The slot died or fell silent under this attempt (three such losses are poison).
        duration_us: Time in the handler.
        init_us: Time of the init phase when this was the slot's first invocation, else None.
        peak_memory_kb: Of the slot's processes.
        slot: The slot's id, empty when none was reached.
        unstarted: The slot ended before its worker had the invocation: it may be run again whatever it does.
    """

    ending: Ending
    payload: bytes
    error_type: str = ""
    lost_slot: bool = False
    duration_us: int = 0
    init_us: int | None = None
    peak_memory_kb: int = 0
    slot: str = ""
    unstarted: bool = False
