"""What becomes of asynchronous work before and after an attempt: Lambda's contract, as one pure function.

A function's error uses up a retry. A failure of the platform uses up none, but a slot lost three times under the same
work is taken for the work's fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from okiba.core.function import Function
from okiba.core.invocation import Ending, Outcome

MAX_LOSSES: Final = 3
"""Slots that may die under one piece of work; it is dead-lettered with the last of them."""

MIN_BACKOFF_MS: Final = 100
MAX_BACKOFF_MS: Final = 5_000
"""Pause after a failure of the platform: a quarter of the work's age within these two, so that it grows with every
failure and nobody has to count them."""


class Attempt(Protocol):
    """One attempt's right to run, as far as a decision needs it; `ports.Lease` is one."""

    @property
    def attempt(self) -> int:
        """Attempts begun, this one included; function errors only."""
        ...

    @property
    def losses(self) -> int:
        """Slots that died under the work before this attempt."""
        ...

    @property
    def accepted_ms(self) -> int:
        """Wall clock; what the age counts from."""
        ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What is the same for all functions.

    Args:
        delays_ms: Waits before the first and the second retry; Lambda's are 1 and 2 minutes.
    """

    delays_ms: tuple[int, int] = (60_000, 120_000)


@dataclass(frozen=True, slots=True)
class Succeed:
    """The work has its end."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Once more, not before `due_ms`.

    Args:
        lost: The slot died under it, which counts towards poison.
        gives_back: The attempt does not count.
    """

    due_ms: int
    lost: bool
    gives_back: bool


@dataclass(frozen=True, slots=True)
class Bury:
    """Never again.

    Args:
        reason: `RetriesExhausted`, `EventAgeExceeded`, `Poison` or `ZeroReservedConcurrency`.
    """

    reason: str


Decision = Succeed | Retry | Bury


def after(
    function: Function, attempt: Attempt, outcome: Outcome | None, now_ms: int, policy: RetryPolicy
) -> Decision | None:
    """What to do with work after this outcome; with no outcome yet, whether it may run at all (None: it may).

    Source:
        Lambda's "How Lambda handles errors and retries with asynchronous invocation".
    """
    if outcome is None:
        return _refusal(function, attempt, now_ms)
    if outcome.ending is Ending.SUCCEEDED:
        return Succeed()
    if function.reserved_concurrency == 0:
        return Bury("ZeroReservedConcurrency")
    if outcome.ending is Ending.PLATFORM_FAILURE:
        return _after_platform_failure(function, attempt, outcome, now_ms)
    return _after_function_error(function, attempt, now_ms, policy)


def _refusal(function: Function, attempt: Attempt, now_ms: int) -> Bury | None:
    if function.reserved_concurrency == 0:
        return Bury("ZeroReservedConcurrency")
    return Bury("EventAgeExceeded") if _too_old(function, attempt, now_ms) else None


def _after_function_error(function: Function, attempt: Attempt, now_ms: int, policy: RetryPolicy) -> Decision:
    if attempt.attempt > function.retries:
        return Bury("RetriesExhausted")
    due_ms = now_ms + policy.delays_ms[min(attempt.attempt, len(policy.delays_ms)) - 1]
    return _unless_too_old(function, attempt, Retry(due_ms, lost=False, gives_back=False))


def _after_platform_failure(function: Function, attempt: Attempt, outcome: Outcome, now_ms: int) -> Decision:
    if outcome.lost_slot and attempt.losses + 1 >= MAX_LOSSES:
        return Bury("Poison")
    backoff_ms = min(max((now_ms - attempt.accepted_ms) // 4, MIN_BACKOFF_MS), MAX_BACKOFF_MS)
    return _unless_too_old(function, attempt, Retry(now_ms + backoff_ms, lost=outcome.lost_slot, gives_back=True))


def _unless_too_old(function: Function, attempt: Attempt, retry: Retry) -> Decision:
    """The retry, if the work will still be young enough when it is due: nobody gains from waiting for a refusal."""
    return Bury("EventAgeExceeded") if _too_old(function, attempt, retry.due_ms) else retry


def _too_old(function: Function, attempt: Attempt, at_ms: int) -> bool:
    return at_ms - attempt.accepted_ms > function.max_event_age_s * 1000
