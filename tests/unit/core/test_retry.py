"""Lambda's contract for asynchronous invocations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.core.function import Function
from okiba.core.invocation import Ending, Outcome
from okiba.core.retry import (
    MAX_LOSSES,
    MIN_BACKOFF_MS,
    Bury,
    Retry,
    RetryPolicy,
    Succeed,
    after,
)

NOW = 1_764_000_000_000
POLICY = RetryPolicy((60_000, 120_000))
FUNCTION = Function("thumbnails", "python3.11", "app.handler", "00", 1, "r1", 0, "AKIA")

DONE = Outcome(Ending.SUCCEEDED, b"null")
RAISED = Outcome(Ending.FUNCTION_ERROR, b"{}", "ValueError")
NO_SLOT = Outcome(Ending.PLATFORM_FAILURE, b"{}", "NoSlot")
LOST = Outcome(Ending.PLATFORM_FAILURE, b"{}", "SlotLost", lost_slot=True)


@dataclass(frozen=True)
class Standing:
    attempt: int = 1
    losses: int = 0
    accepted_ms: int = NOW


def test_success_ends_it():
    assert after(FUNCTION, Standing(attempt=3), DONE, NOW, POLICY) == Succeed()


@pytest.mark.parametrize(("attempt", "delay_ms"), [(1, 60_000), (2, 120_000)])
def test_a_function_error_is_tried_again_after_one_minute_and_after_two(attempt, delay_ms):
    decision = after(FUNCTION, Standing(attempt), RAISED, NOW, POLICY)

    assert decision == Retry(NOW + delay_ms, lost=False, gives_back=False)


def test_the_third_function_error_is_the_last():
    assert after(FUNCTION, Standing(3), RAISED, NOW, POLICY) == Bury("RetriesExhausted")


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_function_runs_once_more_than_it_has_retries(retries):
    function = replace(FUNCTION, retries=retries)
    ends = [after(function, Standing(attempt), RAISED, NOW, POLICY) for attempt in (1, 2, 3)]

    assert sum(isinstance(end, Retry) for end in ends) == retries


def test_a_platform_failure_costs_no_attempt_however_many_were_used():
    decision = after(FUNCTION, Standing(attempt=3), NO_SLOT, NOW, POLICY)

    assert decision == Retry(NOW + MIN_BACKOFF_MS, lost=False, gives_back=True)


def test_the_pause_after_platform_failures_grows_with_the_works_age():
    # 0 s old: 0.1 s; 4 s old: 1 s; from 20 s on: 5 s.
    for age_ms, pause_ms in [(0, 100), (4_000, 1_000), (20_000, 5_000), (3_600_000, 5_000)]:
        assert after(FUNCTION, Standing(accepted_ms=NOW - age_ms), NO_SLOT, NOW, POLICY) == Retry(
            NOW + pause_ms, lost=False, gives_back=True
        )


def test_a_lost_slot_counts_as_a_loss():
    assert after(FUNCTION, Standing(), LOST, NOW, POLICY) == Retry(NOW + MIN_BACKOFF_MS, lost=True, gives_back=True)


def test_work_under_which_three_slots_died_is_poison():
    assert after(FUNCTION, Standing(losses=MAX_LOSSES - 2), LOST, NOW, POLICY) != Bury("Poison")
    assert after(FUNCTION, Standing(losses=MAX_LOSSES - 1), LOST, NOW, POLICY) == Bury("Poison")


def test_platform_failures_without_a_loss_are_never_poison():
    assert isinstance(after(FUNCTION, Standing(losses=MAX_LOSSES - 1), NO_SLOT, NOW, POLICY), Retry)


def test_no_retry_is_due_when_the_event_would_be_too_old_by_then():
    function = replace(FUNCTION, max_event_age_s=60)
    young = Standing(accepted_ms=NOW)
    older = Standing(accepted_ms=NOW - 1)

    assert isinstance(after(function, young, RAISED, NOW, POLICY), Retry)
    assert after(function, older, RAISED, NOW, POLICY) == Bury("EventAgeExceeded")


def test_platform_failures_end_at_the_maximum_age():
    old = Standing(accepted_ms=NOW - FUNCTION.max_event_age_s * 1000)

    assert after(FUNCTION, old, NO_SLOT, NOW, POLICY) == Bury("EventAgeExceeded")


def test_exhausted_retries_are_the_reason_whatever_the_age():
    old = Standing(attempt=3, accepted_ms=NOW - FUNCTION.max_event_age_s * 2000)

    assert after(FUNCTION, old, RAISED, NOW, POLICY) == Bury("RetriesExhausted")


def test_before_an_attempt_young_work_may_run():
    assert after(FUNCTION, Standing(), None, NOW, POLICY) is None


def test_before_an_attempt_work_that_waited_too_long_is_given_up():
    limit_ms = FUNCTION.max_event_age_s * 1000

    assert after(FUNCTION, Standing(accepted_ms=NOW - limit_ms), None, NOW, POLICY) is None
    assert after(FUNCTION, Standing(accepted_ms=NOW - limit_ms - 1), None, NOW, POLICY) == Bury("EventAgeExceeded")


@pytest.mark.parametrize("outcome", [None, RAISED, NO_SLOT, LOST])
def test_a_function_with_no_concurrency_reserved_never_retries(outcome):
    function = replace(FUNCTION, reserved_concurrency=0)

    assert after(function, Standing(), outcome, NOW, POLICY) == Bury("ZeroReservedConcurrency")


def test_what_succeeded_has_succeeded_even_if_concurrency_was_taken_away_meanwhile():
    assert after(replace(FUNCTION, reserved_concurrency=0), Standing(), DONE, NOW, POLICY) == Succeed()


outcomes = st.sampled_from([DONE, RAISED, NO_SLOT, LOST])


@given(st.lists(outcomes, max_size=40), st.integers(0, 2))
def test_a_function_never_errs_more_often_than_its_retries_allow(told, retries):
    function = replace(FUNCTION, retries=retries)
    attempts, losses, errors, now = 0, 0, 0, NOW
    for outcome in told:
        attempts += 1
        errors += outcome is RAISED
        decision = after(function, Standing(attempts, losses), outcome, now, POLICY)
        if not isinstance(decision, Retry):
            break
        now = decision.due_ms
        attempts -= decision.gives_back
        losses += decision.lost

    assert errors <= retries + 1
    assert losses < MAX_LOSSES
