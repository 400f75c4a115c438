from __future__ import annotations

import json

import pytest

from okiba_runtime.endings import Ending
from tests.unit.runtime.vectors import vectors


def _exits() -> list:
    return [param for param in vectors("responses") if "okiba-exit" in param.values[0]["headers"]]


@pytest.mark.parametrize("vector", _exits())
def test_an_ending_is_told_as_its_vector_says(vector):
    told = json.loads(vector["headers"]["okiba-exit"])
    limit_ms = 10_000 if told["reason"] == "init_timeout" else 30_000
    ending = Ending(told["reason"], told["request_id"], told["exit_code"], told["signal"], limit_ms)

    assert json.loads(ending.report_json(40312, told["last_request_id"])) == told


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        pytest.param(Ending("exit", "i", 0), "Runtime exited without providing a reason", id="sys.exit()"),
        pytest.param(Ending("exit", "i", 7), "Runtime exited with error: exit status 7", id="sys.exit(7)"),
        pytest.param(
            Ending("signal", "i", signal=11), "Runtime exited with error: signal: segmentation fault", id="a crash"
        ),
        pytest.param(
            Ending("signal", "i", signal=34), "Runtime exited with error: signal: signal 34", id="a rare signal"
        ),
    ],
)
def test_a_death_is_told_in_lambda_s_words(ending, message):
    assert json.loads(ending.error_json()) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: i Error: {message}",
    }


def test_an_error_that_would_not_fit_into_a_header_is_shortened():
    error = {"errorType": "E", "errorMessage": "ü" * 20_000, "requestId": "", "stackTrace": ["x" * 9_000]}
    ending = Ending("init_error", None, 0, init_failure=json.dumps(error).encode())

    told = ending.report_json(1, "")

    assert len(told) < 8 * 1024
    assert json.loads(told)["error"]["errorType"] == "E"
