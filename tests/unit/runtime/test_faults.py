from __future__ import annotations

import json

from okiba_runtime.faults import Failure, Fault, failure_of


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def _raise(error: BaseException) -> None:
    raise error


def _caught(error: BaseException) -> BaseException:
    try:
        _raise(error)
    except BaseException as caught:
        return caught
    raise AssertionError


def test_an_exception_becomes_lambda_s_error_json():
    failure = failure_of(_caught(ValueError("no photo")), "id-1")

    told = json.loads(failure.json())

    assert list(told) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert (told["errorMessage"], told["errorType"], told["requestId"]) == ("no photo", "ValueError", "id-1")
    assert len(told["stackTrace"]) == 2
    assert told["stackTrace"][0].startswith(f'  File "{__file__}", line ')
    assert told["stackTrace"][1].endswith("in _raise\n    raise error\n")


def test_an_error_is_logged_with_its_traceback_indented_by_no_break_spaces():
    failure = Failure("ValueError", "bad\nphoto", ['  File "app.py", line 1, in handler\n    raise\n'], "id-1")

    assert failure.log_text() == (
        "[ERROR] ValueError: bad\nphoto\nTraceback (most recent call last):\n"
        '\u00a0\u00a0File "app.py", line 1, in handler\n\u00a0\u00a0\u00a0\u00a0raise\n'
    )


def test_an_exception_that_cannot_say_what_it_is_does_not_stop_us():
    assert failure_of(_caught(Unspeakable()), "").message == "<Unspeakable: its __str__ raised RuntimeError>"


def test_what_the_platform_says_has_no_request_id_and_no_trace():
    fault = Fault("Function.ResponseSizeTooLarge", "too large", bare=True)

    assert (
        failure_of(fault, "id-1").json()
        == b'{"errorType": "Function.ResponseSizeTooLarge", "errorMessage": "too large"}'
    )


def test_an_endless_message_and_a_deep_trace_are_cut():
    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("x" * 10_000_000)
        dive_on(depth - 1)

    def dive_on(depth: int) -> None:
        dive(depth)

    def caught() -> BaseException:
        try:
            dive(400)
        except ValueError as error:
            return error
        raise AssertionError

    failure = failure_of(caught(), "")

    assert len(failure.message) < 300_000
    assert len(failure.trace) <= 201
    assert "frames left out" in "".join(failure.trace)
