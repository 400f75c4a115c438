"""`okiba list`, `invoke`, `logs` and `delete` against prepared answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Okiba
from tests.unit.cli.stand_in import Answer, StandIn

RECORD = {
    "name": "thumbnails",
    "state": "Active",
    "state_reason": "",
    "runtime": "python3.11",
    "memory_mb": 512,
    "timeout_s": 30,
    "bindings": [{"bucket": "photos"}],
    "managed_by": "stack demo",
    "warnings": [],
}
INVOKE = "POST /2015-03-31/functions/f/invocations"
ERROR = {"errorType": "ValueError", "errorMessage": "no", "stackTrace": ['  File "app.py", line 2, in handler\n']}


def test_list_shows_a_line_a_function(server: StandIn, okiba: Okiba) -> None:
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": [{"FunctionName": "thumbnails"}]})
    server.answers["GET /okiba/v1/functions/thumbnails"] = Answer({**RECORD, "warnings": ["template.yaml:3: Tracing"]})
    ran = okiba("list")
    assert ran.stdout.splitlines()[1].split("  ")[:2] == ["thumbnails", "Active"]
    assert "thumbnails: warning: template.yaml:3: Tracing" in ran.stderr


def test_list_as_json_is_the_records(server: StandIn, okiba: Okiba) -> None:
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": [{"FunctionName": "thumbnails"}]})
    server.answers["GET /okiba/v1/functions/thumbnails"] = Answer(RECORD)
    assert json.loads(okiba("list", "--json").stdout) == [RECORD]


def test_a_list_without_functions_says_how_to_get_one(server: StandIn, okiba: Okiba) -> None:
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": []})
    assert okiba("list").stdout == "No functions yet; deploy one with: okiba deploy FOLDER\n"
    assert okiba("list", "--json").stdout == "[]\n"


def test_invoke_prints_the_result(server: StandIn, okiba: Okiba) -> None:
    server.answers[INVOKE] = Answer({"n": 1})
    ran = okiba("invoke", "f", "--payload", '{"x": 2}')
    assert (ran.exit_code, ran.stdout) == (0, '{"n": 1}\n')
    assert server.requests[0].body == b'{"x": 2}'


def test_the_event_may_come_from_a_file_or_from_standard_input(server: StandIn, okiba: Okiba, tmp_path: Path) -> None:
    server.answers[INVOKE] = Answer(b"null")
    (tmp_path / "event.json").write_text("[1]")
    okiba("invoke", "f", "--payload", f"@{tmp_path}/event.json")
    okiba("invoke", "f", "--payload", "-", input="[2]")
    assert [request.body for request in server.requests] == [b"[1]", b"[2]"]


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        pytest.param("{x", "--payload is not JSON: ", id="no JSON"),
        pytest.param("@/no/such/file", "/no/such/file cannot be read", id="no file"),
    ],
)
def test_an_event_that_cannot_be_one_is_never_sent(server: StandIn, okiba: Okiba, payload: str, said: str) -> None:
    ran = okiba("invoke", "f", "--payload", payload)
    assert ran.exit_code == 1
    assert said in ran.stderr
    assert server.requests == []


def test_a_function_error_is_shown_as_python_shows_it_and_ends_with_1(server: StandIn, okiba: Okiba) -> None:
    server.answers[INVOKE] = Answer(ERROR, headers={"X-Amz-Function-Error": "Unhandled"})
    ran = okiba("invoke", "f")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == ('Traceback (most recent call last):\n  File "app.py", line 2, in handler\nValueError: no\n')


def test_a_function_error_as_json_has_all_there_is_and_ends_with_1(server: StandIn, okiba: Okiba) -> None:
    log = base64.b64encode(b"START\n").decode()
    headers = {"X-Amz-Function-Error": "Unhandled", "X-Amz-Log-Result": log, "x-amzn-RequestId": "id"}
    server.answers[INVOKE] = Answer(ERROR, headers=headers)
    ran = okiba("invoke", "f", "--tail", "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout) == {
        "status": 200, "request_id": "id", "function_error": "Unhandled", "payload": ERROR, "log": "START\n",
    }  # fmt: skip
    assert server.requests[0].headers["X-Amz-Log-Type"] == "Tail"


def test_an_asynchronous_call_tells_its_request_id(server: StandIn, okiba: Okiba) -> None:
    server.answers[INVOKE] = Answer(b"", 202, {"x-amzn-RequestId": "abc"})
    assert okiba("invoke", "f", "--async").stdout == "Accepted as request abc\n"
    assert server.requests[0].headers["X-Amz-Invocation-Type"] == "Event"


def test_a_function_that_is_not_there_is_one_line_and_exit_code_1(okiba: Okiba) -> None:
    ran = okiba("invoke", "f")
    assert ran.exit_code == 1
    assert ran.stderr.count("\n") == 1
    assert "nothing at" in ran.stderr


LOGS = "GET /okiba/v1/functions/f/logs"


def chunk(number: int, text: str, dropped: int = 0, time_ms: int = 1_795_368_815_001) -> dict[str, object]:
    return {"id": f"{number}-0", "slot": "s", "time_ms": time_ms, "dropped": dropped, "text": text}


def test_logs_are_read_to_their_end(server: StandIn, okiba: Okiba) -> None:
    server.answers[LOGS] = [
        Answer({"chunks": [chunk(1, "START\n"), chunk(2, "one")]}),
        Answer({"chunks": [chunk(3, " line\n")]}),
        Answer({"chunks": []}),
    ]
    assert okiba("logs", "f").stdout == "START\none line\n"
    assert [request.query.get("after") for request in server.requests] == [None, "2-0", "3-0"]


def test_lost_output_is_counted_where_it_is_missing(server: StandIn, okiba: Okiba) -> None:
    server.answers[LOGS] = [Answer({"chunks": [chunk(1, "rest\n", dropped=500)]}), Answer({"chunks": []})]
    ran = okiba("logs", "f")
    assert ran.stdout == "rest\n"
    assert "500 bytes of output were dropped here" in ran.stderr


def test_logs_since_an_age_leave_out_what_is_older(server: StandIn, okiba: Okiba) -> None:
    old, new = chunk(1, "old\n", time_ms=1_000), chunk(2, "new\n", time_ms=9_999_999_999_999)
    server.answers[LOGS] = [Answer({"chunks": [old, new]}), Answer({"chunks": []})]
    assert okiba("logs", "f", "--since", "10m").stdout == "new\n"


def test_an_age_that_is_none_is_refused(okiba: Okiba) -> None:
    ran = okiba("logs", "f", "--since", "yesterday")
    assert ran.exit_code == 1
    assert "as in 10m; got 'yesterday'" in ran.stderr


def test_following_logs_waits_for_more_until_okiba_is_gone(server: StandIn, okiba: Okiba) -> None:
    server.answers[LOGS] = [Answer({"chunks": [chunk(1, "a\n")]}), Answer({"chunks": []}), Answer({}, 503)]
    ran = okiba("logs", "f", "-f")
    assert ran.stdout == "a\n"
    assert [request.query["wait_ms"] for request in server.requests] == ["0", "0", "5000"]


def test_delete_asks_nobody_who_is_not_there(server: StandIn, okiba: Okiba) -> None:
    ran = okiba("delete", "f", input="y\n")
    assert ran.exit_code == 1
    assert "deleting f needs --yes" in ran.stderr
    assert server.requests == []


def test_delete_with_yes_deletes(server: StandIn, okiba: Okiba) -> None:
    server.answers["DELETE /2015-03-31/functions/f"] = Answer()
    assert okiba("delete", "f", "--yes").exit_code == 0
    assert server.asked() == ["DELETE /2015-03-31/functions/f"]


LETTER = {
    "id": "5-0", "request_id": "r", "event_id": "e", "source": "s3", "accepted_ms": 1_795_368_815_001,
    "died_ms": 1_795_368_999_001, "reason": "RetriesExhausted", "attempts": 3, "losses": 0, "event_bytes": 9,
    "error": ERROR,
}  # fmt: skip
LETTERS = "GET /okiba/v1/functions/f/dead-letters"


def test_dead_letters_are_listed_with_their_last_error(server: StandIn, okiba: Okiba) -> None:
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": [{"FunctionName": "f"}]})
    server.answers[LETTERS] = Answer({"dead_letters": [LETTER]})
    for arguments in (["dlq", "list"], ["dlq", "list", "f"]):
        line = okiba(*arguments).stdout.splitlines()[1]
        assert line.split()[:2] == ["f", "5-0"]
        assert "RetriesExhausted" in line
        assert line.endswith("ValueError: no")
    assert json.loads(okiba("dlq", "list", "f", "--json").stdout) == [{"function": "f", **LETTER}]


def test_more_dead_letters_than_a_page_has_are_all_read(server: StandIn, okiba: Okiba) -> None:
    full = [{**LETTER, "id": f"{number}-0"} for number in range(100)]
    server.answers[LETTERS] = [Answer({"dead_letters": full}), Answer({"dead_letters": [LETTER]})]
    assert len(json.loads(okiba("dlq", "list", "f", "--json").stdout)) == 101
    assert server.requests[1].query == {"after": "99-0", "count": "100"}


@pytest.mark.parametrize(("event", "shown"), [('{"a":"é"}', '{\n  "a": "é"\n}\n'), ("not json", "not json\n")])
def test_a_dead_letter_is_shown_with_its_event(server: StandIn, okiba: Okiba, event: str, shown: str) -> None:
    server.answers[f"{LETTERS}/5-0"] = Answer({**LETTER, "event": event})
    ran = okiba("dlq", "show", "f", "5-0")
    assert "died        2026-11-22 " in ran.stdout
    assert "ValueError: no" in ran.stdout
    assert ran.stdout.endswith(f"Event:\n{shown}")


@pytest.mark.parametrize("command", [["logs", "f"], ["logs", "f", "-f"], ["dlq", "list", "f"]], ids=" ".join)
def test_a_function_of_which_nothing_is_kept_is_not_found(server: StandIn, okiba: Okiba, command: list[str]) -> None:
    server.answers[LOGS], server.answers[LETTERS] = Answer({"chunks": []}), Answer({"dead_letters": []})
    ran = okiba(*command)
    assert (ran.exit_code, ran.stderr) == (1, "okiba: Function not found: f\n")


@pytest.mark.parametrize("command", [["logs", "f"], ["dlq", "list", "f"]], ids=" ".join)
def test_a_function_that_has_said_nothing_yet_is_no_error(server: StandIn, okiba: Okiba, command: list[str]) -> None:
    server.answers[LOGS], server.answers[LETTERS] = Answer({"chunks": []}), Answer({"dead_letters": []})
    server.answers["GET /okiba/v1/functions/f"] = Answer({"name": "f"})
    server.answers["GET /okiba/v1/status"] = Answer({"functions": []})
    assert okiba(*command).exit_code == 0


def test_what_is_left_of_a_deleted_function_is_shown(server: StandIn, okiba: Okiba) -> None:
    server.answers[LOGS] = [Answer({"chunks": [chunk(1, "last words\n")]}), Answer({"chunks": []})]
    server.answers[LETTERS] = Answer({"dead_letters": [LETTER]})
    server.answers["GET /okiba/v1/status"] = Answer({"functions": []})
    assert okiba("logs", "f").stdout == "last words\n"
    assert "5-0" in okiba("dlq", "list", "f").stdout


def test_delete_says_what_stays(okiba: Okiba) -> None:
    assert "logs and dead letters stay for 7 days" in okiba("delete", "--help").stdout
