"""The CLI's client: signed requests, and errors of every kind as one of Okiba's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from okiba.apps.cli.client import OkibaClient
from okiba.apps.local.credentials import ensure_credentials
from okiba.apps.local.state import FolderLock, Installation, write_installation
from okiba.core.errors import AccessDenied, CallerError, Conflict, InvalidParameter, NotFound, OkibaError, PlatformError
from tests.servers import free_port
from tests.unit.cli.stand_in import Answer, StandIn


def test_requests_are_signed_with_the_folders_admin_key(server: StandIn) -> None:
    server.answers["GET /okiba/v1/status"] = Answer({"functions": []})
    client = OkibaClient.from_state(server.state)
    assert client.get_json("/okiba/v1/status", {"a b": "ü", "n": 1}) == {"functions": []}
    (request,) = server.requests
    assert request.query == {"a b": "ü", "n": "1"}
    credential = f"{re.escape(client.access_key)}/\\d{{8}}/us-east-1/lambda/aws4_request"
    assert re.search(f"AWS4-HMAC-SHA256 Credential={credential}", request.headers["Authorization"])


def test_lambda_is_called_with_the_same_key(server: StandIn) -> None:
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": [{"FunctionName": "b"}, {"FunctionName": "a"}]})
    client = OkibaClient.from_state(server.state)
    assert client.function_names() == ["a", "b"]
    assert client.access_key in server.requests[0].headers["Authorization"]


def test_all_pages_of_functions_are_read(server: StandIn) -> None:
    first = Answer({"Functions": [{"FunctionName": "a"}], "NextMarker": "m"})
    server.answers["GET /2015-03-31/functions"] = [first, Answer({"Functions": [{"FunctionName": "b"}]})]
    assert OkibaClient.from_state(server.state).function_names() == ["a", "b"]
    assert server.requests[1].query == {"Marker": "m"}


def test_the_users_own_aws_surroundings_have_no_say(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "a-profile-that-does-not-exist")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": []})
    server.answers["GET /okiba/v1/status"] = Answer({"ok": True})
    client = OkibaClient.from_state(server.state)
    assert client.function_names() == []
    assert client.get_json("/okiba/v1/status") == {"ok": True}


ERRORS = [
    (404, "ResourceNotFoundException", NotFound),
    (409, "ResourceConflictException", Conflict),
    (400, "InvalidParameterValueException", InvalidParameter),
    (403, "InvalidSignatureException", AccessDenied),
    (429, "TooManyRequestsException", CallerError),
    (503, "ServiceException", PlatformError),
]


@pytest.mark.parametrize(("status", "code", "kind"), ERRORS)
def test_an_error_answer_is_the_same_error_through_either_door(
    server: StandIn, status: int, code: str, kind: type[OkibaError]
) -> None:
    answer = Answer({"Type": "User", "message": "what went wrong"}, status, {"x-amzn-ErrorType": code})
    server.answers["GET /okiba/v1/status"] = answer
    server.answers["GET /2015-03-31/functions/f"] = answer
    client = OkibaClient.from_state(server.state)
    with pytest.raises(kind, match="what went wrong"):
        client.get_json("/okiba/v1/status")
    with pytest.raises(kind, match="what went wrong"):
        client.lambda_call("get_function", FunctionName="f")


def test_a_request_is_never_sent_twice(server: StandIn) -> None:
    server.answers["POST /2015-03-31/functions/f/invocations"] = Answer({"message": "lost"}, 502)
    with pytest.raises(PlatformError):
        OkibaClient.from_state(server.state).lambda_call("invoke", FunctionName="f")
    assert len(server.requests) == 1


def test_an_answer_that_is_not_json_is_told_as_it_is(server: StandIn) -> None:
    server.answers["GET /okiba/v1/status"] = Answer(b"<html>")
    with pytest.raises(PlatformError, match="expected JSON from Okiba, got b'<html>'"):
        OkibaClient.from_state(server.state).get_json("/okiba/v1/status")


def test_parameters_that_lambda_has_no_room_for_are_refused_before_they_are_sent(server: StandIn) -> None:
    with pytest.raises(InvalidParameter, match="MemorySize"):
        OkibaClient.from_state(server.state).lambda_call("get_function", FunctionName="f", MemorySize=1)
    assert server.requests == []


def stopped(state: Path) -> OkibaClient:
    """A client of a folder on which nothing runs."""
    state.mkdir(exist_ok=True)
    ensure_credentials(state)
    write_installation(state, Installation(free_port(), 1, 1, state))
    return OkibaClient.from_state(state)


def test_an_okiba_that_does_not_run_is_told_with_what_to_do(tmp_path: Path) -> None:
    client = stopped(tmp_path)
    expected = f"Okiba is not running in {tmp_path}; start it with: okiba up"
    with pytest.raises(PlatformError, match=re.escape(expected)):
        client.get_json("/okiba/v1/status")
    with pytest.raises(PlatformError, match=re.escape(expected)):
        client.function_names()


def test_an_okiba_that_runs_but_does_not_answer_is_told_apart(tmp_path: Path) -> None:
    client = stopped(tmp_path)
    with FolderLock(tmp_path), pytest.raises(PlatformError, match="does not answer at http://127"):
        client.get_json("/okiba/v1/status")


def test_a_folder_without_okiba_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no Okiba in"):
        OkibaClient.from_state(tmp_path / "nothing")


def test_another_server_at_okibas_address_is_told_from_okiba(server: StandIn) -> None:
    server.answers["GET /okiba/v1/status"] = Answer({})
    server.answers["GET /2015-03-31/functions"] = Answer({"other": 1})
    client = OkibaClient.from_state(server.state)
    with pytest.raises(PlatformError, match="not this release of Okiba: it tells no 'functions'"):
        client.get_json("/okiba/v1/status")["functions"]
    with pytest.raises(PlatformError, match="it tells no 'Functions'"):
        client.function_names()
