"""Okiba's own routes, for the administrator alone."""

import time
import uuid

import pytest

from okiba.core.function import State, UpdateStatus
from okiba.core.invocation import Ending, Outcome
from okiba.core.preparation import given_up
from okiba.ports import RawNotification, Work
from tests.integration.control.lambda_calls import create

BINDING = {"id": "Upload", "bucket": "photos", "events": ["s3:ObjectCreated:*"], "prefix": "in/", "suffix": ".jpg"}
STATEMENT = {"actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::photos/*"]}
WANTED = {
    "bindings": [BINDING],
    "statements": [STATEMENT],
    "requirements": "Pillow>=11\n",
    "allow_source": False,
    "preload": ["PIL.Image"],
    "managed_by": "photos",
    "warnings": ["Tracing: without effect here"],
}


def _path(name, rest=""):
    return f"/okiba/v1/functions/{name}{rest}"


@pytest.fixture
def active(control, client, name):
    create(client, name)
    control.prepare(name)
    return name


# --- attachments ------------------------------------------------------------------------------------------------------


def test_attachments_are_stored_and_make_work_for_the_controller(control, active):
    before = control.function(active)
    status, _, told = control.ask("PUT", _path(active, "/attachments"), WANTED)
    function = control.function(active)
    (binding,) = told["bindings"]
    assert abs(binding.pop("since_ms") - time.time() * 1000) < 60_000
    assert (status, binding, told["managed_by"]) == (200, BINDING, "photos")
    assert function.bindings[0].prefix == "in/"
    assert function.statements[0].actions == ("s3:GetObject",)
    assert (function.layer.requirements, function.preload) == ("Pillow>=11\n", ("PIL.Image",))
    assert (function.state, function.last_update) == (State.ACTIVE, UpdateStatus.IN_PROGRESS)
    assert function.revision != before.revision


def test_the_same_attachments_again_change_nothing(control, active):
    control.ask("PUT", _path(active, "/attachments"), WANTED)
    control.prepare(active)
    before = control.function(active)
    assert control.ask("PUT", _path(active, "/attachments"), WANTED)[0] == 200
    assert control.function(active) == before


@pytest.mark.parametrize(
    "verdict",
    [
        pytest.param({"state": State.FAILED, "state_reason": "no"}, id="that never ran"),
        pytest.param({"last_update": UpdateStatus.FAILED, "last_update_reason": "no"}, id="whose update failed"),
    ],
)
def test_the_same_attachments_again_try_a_refused_function_again(control, active, verdict):
    control.ask("PUT", _path(active, "/attachments"), WANTED)
    before = control.refuse(active, **verdict)
    status, _, _ = control.ask("PUT", _path(active, "/attachments"), WANTED)
    after = control.function(active)
    assert (status, given_up(after)) == (200, False)
    assert after.revision != before.revision
    assert after.last_modified_ms > before.last_modified_ms
    assert after.running == before.running


def test_new_warnings_alone_are_no_new_revision(control, active):
    control.ask("PUT", _path(active, "/attachments"), WANTED)
    control.prepare(active)
    before = control.function(active)
    control.ask("PUT", _path(active, "/attachments"), {**WANTED, "warnings": []})
    after = control.function(active)
    assert (after.revision, after.last_update, after.warnings) == (before.revision, UpdateStatus.SUCCESSFUL, ())


def test_what_is_left_out_of_attachments_is_taken_away(control, active):
    control.ask("PUT", _path(active, "/attachments"), WANTED)
    control.ask("PUT", _path(active, "/attachments"), {})
    function = control.function(active)
    assert (function.bindings, function.statements, function.layer, function.preload) == ((), (), None, ())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"a_field": 1}, id="an unknown field"),
        pytest.param({"bindings": {}}, id="bindings that are no list"),
        pytest.param({"bindings": ["x"]}, id="a binding that is no object"),
        pytest.param({"bindings": [{**BINDING, "wildcard": "*"}]}, id="an unknown field in a binding"),
        pytest.param({"bindings": [{**BINDING, "events": ["s3:ObjectEaten:*"]}]}, id="an unknown event"),
        pytest.param({"bindings": [{**BINDING, "events": []}]}, id="no event"),
        pytest.param({"bindings": [{**BINDING, "bucket": "Photos"}]}, id="a bucket with a capital"),
        pytest.param({"bindings": [{**BINDING, "bucket": "okiba"}]}, id="the platform's own bucket"),
        pytest.param({"bindings": [{**BINDING, "bucket": "192.168.1.1"}]}, id="a bucket that is an address"),
        pytest.param({"bindings": [{**BINDING, "id": None}]}, id="a binding without id"),
        pytest.param({"statements": [{"actions": ["s3:GetObject"]}]}, id="a statement without resources"),
        pytest.param({"statements": [{**STATEMENT, "effect": "Deny"}]}, id="a statement that denies"),
        pytest.param({"statements": [{**STATEMENT, "actions": ["everything!"]}]}, id="an action that is none"),
        pytest.param({"requirements": "--index-url http://evil"}, id="an option of pip"),
        pytest.param({"requirements": ["Pillow"]}, id="requirements that are a list"),
        pytest.param({"requirements": "x" * 70_000}, id="requirements of 70 kB"),
        pytest.param({"allow_source": "no"}, id="a flag that is a string"),
        pytest.param({"preload": ["os; import evil"]}, id="a module that is code"),
        pytest.param({"warnings": [1]}, id="a warning that is a number"),
    ],
)
def test_attachments_are_read_strictly(control, standing, change):
    before = control.function(standing)
    status, headers, _ = control.ask("PUT", _path(standing, "/attachments"), {**WANTED, **change})
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidParameterValueException")
    assert control.function(standing) == before


def test_another_runtime_makes_another_layer(control, active):
    """The hash of a layer names its Python version: wheels are per version."""
    control.ask("PUT", _path(active, "/attachments"), WANTED)
    first = control.function(active).layer
    control.prepare(active, runtime="python3.10")
    control.client().update_function_configuration(FunctionName=active, Runtime="python3.11")
    again = control.function(active).layer
    assert again == first
    assert control.ask("GET", _path(active))[2]["layer"]["phase"] == "unknown"


# --- reading ----------------------------------------------------------------------------------------------------------


def test_the_whole_record_is_told_without_secrets(control, client, name):
    create(client, name, Environment={"Variables": {"PASSWORD": "canary"}})
    status, _, told = control.ask("GET", _path(name))
    assert (status, told["name"], told["state"], told["environment"]) == (200, name, "Pending", ["PASSWORD"])
    assert "canary" not in str(told)
    assert "access_key" not in told
    assert told["arn"].endswith(name)


def test_status_is_what_the_process_says(control):
    assert control.ask("GET", "/okiba/v1/status")[2] == {"components": []}


def test_logs_are_read_behind_an_id_and_waited_for(control, standing):
    control.run(lambda parts: parts.logs.append(standing, "slot-1", 0, 1_764_000_000_000, b"hello\xff\n", 3))
    chunks = control.ask("GET", _path(standing, "/logs"))[2]["chunks"]
    assert [(chunk["slot"], chunk["text"], chunk["dropped"]) for chunk in chunks] == [("slot-1", "hello\ufffd\n", 3)]
    began = time.monotonic()
    assert control.ask("GET", _path(standing, f"/logs?after={chunks[0]['id']}&wait_ms=200"))[2]["chunks"] == []
    assert time.monotonic() - began >= 0.15


def test_dead_letters_are_listed_without_and_shown_with_their_event(control, active):
    work = Work(active, "event-1", str(uuid.uuid4()), b'{"n":  1}', "invoke", time.time_ns() // 1_000_000)
    error = b'{"errorType": "ValueError", "errorMessage": "no"}'

    async def die(parts):
        await parts.queue.accept([work])
        (lease,) = await parts.queue.lease(active, 1, time.time_ns() // 1_000_000)
        outcome = Outcome(Ending.FUNCTION_ERROR, error, "ValueError")
        await parts.queue.bury(lease, outcome, "RetriesExhausted")

    control.run(die)
    (letter,) = control.ask("GET", _path(active, "/dead-letters"))[2]["dead_letters"]
    assert (letter["request_id"], letter["reason"], letter["attempts"]) == (work.request_id, "RetriesExhausted", 1)
    assert letter["error"]["errorType"] == "ValueError"
    assert "event" not in letter
    assert control.ask("GET", _path(active, f"/dead-letters?after={letter['id']}"))[2]["dead_letters"] == []
    whole = control.ask("GET", _path(active, f"/dead-letters/{letter['id']}"))[2]
    assert whole["event"] == '{"n":  1}'
    assert control.ask("GET", _path(active, "/dead-letters/1-1"))[0] == 404


@pytest.mark.parametrize(
    "query",
    ["dead-letters?after=x", "dead-letters/x", "dead-letters?count=0", "logs?wait_ms=20001", "logs?wait_ms=-1"],
)
def test_a_place_that_cannot_be_is_refused(control, standing, query):
    assert control.ask("GET", _path(standing, f"/{query}"))[0] == 400


def test_the_quarantine_is_shown_newest_first(control):
    for number in range(3):
        notification = RawNotification(f"{number}-0", "direct", number, b"\xff garbage")
        control.run(lambda parts, it=notification: parts.inbox.quarantine(it, "not JSON"))
    told = control.ask("GET", "/okiba/v1/quarantine?count=2")[2]
    assert told["total"] >= 3
    assert [item["received_ms"] for item in told["quarantined"]] == [2, 1]
    assert (told["quarantined"][0]["reason"], told["quarantined"][0]["body"]) == ("not JSON", "\ufffd garbage")


# --- the object store -------------------------------------------------------------------------------------------------


def test_a_store_that_was_told_nothing_is_said_to_announce_nothing(control, client, name, active):
    control.ask("PUT", f"/okiba/v1/buckets/{name}")
    control.ask("PUT", _path(active, "/attachments"), {"bindings": [{**BINDING, "bucket": name}]})
    control.prepare(active)
    status, _, told = control.ask("GET", "/okiba/v1/store")
    assert (status, told["ok"]) == (200, True)
    assert [lane["message"] for lane in told["lanes"]] == [
        "the store has no target OKIBADIRECT",
        "the store has no target OKIBAQUEUED",
    ]
    (bucket,) = [found for found in told["buckets"] if found["name"] == name]
    assert bucket == {
        "name": name,
        "ok": False,
        "message": "has no rule okiba-direct nor okiba-queued",
        "functions": [active],
    }
    assert told["minio"]["environment"]["MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_OKIBADIRECT"] == "$OKIBA_WEBHOOK_TOKEN"


def test_what_the_store_says_is_for_the_administrator_alone(control):
    assert control.ask("GET", "/okiba/v1/store", principal="nobody")[0] == 403


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_a_bucket_is_made_once_and_then_is_there(control, name):
    assert control.ask("PUT", f"/okiba/v1/buckets/{name}")[0] == 201
    assert control.ask("PUT", f"/okiba/v1/buckets/{name}")[0] == 200


@pytest.mark.parametrize("bucket", ["A", "ab", "okiba", "a..b", "10.0.0.1", "x" * 64, "a_b", "-ab"])
def test_a_bucket_that_may_not_be_called_so_is_refused(control, bucket):
    assert control.ask("PUT", f"/okiba/v1/buckets/{bucket}")[0] == 400
