"""Which revision of a function calls run."""

from dataclasses import replace

from okiba.core.function import Function, State, invocable, to_prepare
from okiba.core.preparation import prepared, refused

ACTIVE = Function("f", "python3.11", "app.handler", "old", 1, "r1", 0, "AK", state=State.ACTIVE)


def changed(function, revision, code):
    return to_prepare(replace(function, code_sha256=code), revision, function)


def test_a_function_that_was_never_prepared_runs_nothing():
    assert invocable(to_prepare(replace(ACTIVE, state=State.PENDING), "r1")) is None


def test_while_a_change_is_prepared_calls_run_what_ran_before():
    assert invocable(changed(ACTIVE, "r2", "new")).code_sha256 == "old"


def test_a_prepared_change_is_what_runs_and_keeps_nothing_of_before():
    ready = prepared(changed(ACTIVE, "r2", "new"))
    assert invocable(ready) is ready
    assert ready.running is None


def test_a_refused_change_leaves_running_what_ran_before_also_after_another_change():
    broken = refused(changed(ACTIVE, "r2", "broken"), "no such requirement")
    assert invocable(broken).code_sha256 == "old"
    again = changed(broken, "r3", "mended")
    assert invocable(again).code_sha256 == "old"
    assert again.running.running is None


def test_limits_of_the_newest_record_hold_for_what_runs():
    limited = replace(changed(ACTIVE, "r2", "new"), reserved_concurrency=0, retries=1)
    assert (invocable(limited).reserved_concurrency, invocable(limited).retries) == (0, 1)
