"""Functions changed as boto3 sees it: code, configuration, limits; several callers at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import urllib3

from okiba.core.function import State, UpdateStatus
from tests.integration.control.lambda_calls import OTHER_ZIP, create, refused, sha256, unless_refused

# --- updating ---------------------------------------------------------------------------------------------------------


def test_an_update_of_a_function_that_is_active_leaves_it_active(control, client, name):
    created = create(client, name)
    control.prepare(name)
    updated = client.update_function_configuration(FunctionName=name, Timeout=7, Description="")
    assert (updated["State"], updated["LastUpdateStatus"], updated["Timeout"]) == ("Active", "InProgress", 7)
    assert updated["RevisionId"] != created["RevisionId"]
    control.prepare(name)
    assert client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Successful"


def test_an_update_of_a_function_that_never_was_active_makes_it_pending(control, client, name):
    create(client, name)
    control.prepare(name, state=State.FAILED, state_reason="no such package")
    assert client.update_function_code(FunctionName=name, ZipFile=OTHER_ZIP)["State"] == "Pending"


def test_an_update_that_failed_says_why_and_the_function_stays_active(control, client, name):
    create(client, name)
    control.prepare(name)
    client.update_function_configuration(FunctionName=name, Timeout=7)

    async def fail(parts):
        function = await parts.registry.get(name)
        failed = replace(function, last_update=UpdateStatus.FAILED, last_update_reason="because")
        await parts.registry.put(failed, replaces=function.revision)

    control.run(fail)
    told = client.get_function_configuration(FunctionName=name)
    assert (told["State"], told["LastUpdateStatus"], told["LastUpdateStatusReason"]) == ("Active", "Failed", "because")


def test_new_code_is_stored_and_told(client, name):
    created = create(client, name)
    updated = client.update_function_code(FunctionName=name, ZipFile=OTHER_ZIP)
    assert (updated["CodeSha256"], updated["CodeSize"]) == (sha256(OTHER_ZIP), len(OTHER_ZIP))
    assert updated["RevisionId"] != created["RevisionId"]
    assert urllib3.request("GET", client.get_function(FunctionName=name)["Code"]["Location"]).data == OTHER_ZIP


def test_a_dry_run_checks_the_code_and_changes_nothing(client, name):
    created = create(client, name)
    dry = client.update_function_code(FunctionName=name, ZipFile=OTHER_ZIP, DryRun=True)
    assert dry["CodeSha256"] == sha256(OTHER_ZIP)
    assert client.get_function_configuration(FunctionName=name)["RevisionId"] == created["RevisionId"]
    with refused("InvalidParameterValueException", 400):
        client.update_function_code(FunctionName=name, ZipFile=b"no zip", DryRun=True)


def test_what_an_update_does_not_name_stays(client, name):
    create(client, name, Timeout=9, Environment={"Variables": {"KEEP": "1"}})
    updated = client.update_function_configuration(FunctionName=name, MemorySize=256)
    assert (updated["Timeout"], updated["Environment"]["Variables"]) == (9, {"KEEP": "1"})


def test_an_empty_environment_takes_the_variables_away(client, name):
    create(client, name, Environment={"Variables": {"GONE": "1"}})
    assert "Environment" not in client.update_function_configuration(FunctionName=name, Environment={"Variables": {}})


@pytest.mark.parametrize("operation", ["update_function_configuration", "update_function_code"])
def test_an_update_of_another_revision_isrefused(client, name, operation):
    created = create(client, name)
    changes = {"ZipFile": OTHER_ZIP} if operation == "update_function_code" else {"Timeout": 5}
    getattr(client, operation)(FunctionName=name, RevisionId=created["RevisionId"], **changes)
    with refused("PreconditionFailedException", 412, "Revision Id provided does not match"):
        getattr(client, operation)(FunctionName=name, RevisionId=created["RevisionId"], **changes)


def test_updates_at_once_lose_none_of_each_other(control, name):
    """Each names another field, so all must stand in the end; who loses five races is told so and comes again."""
    create(control.client(), name)
    updates = [{"Timeout": 77}, {"MemorySize": 777}, {"Description": "seven"}, {"Handler": "seven.handler"}]

    def attempt(changes):
        update = control.client().update_function_configuration
        answers = (unless_refused("ResourceConflictException", update, FunctionName=name, **changes) for _ in range(20))
        assert next(filter(None, answers))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attempt, updates))
    function = control.function(name)
    assert (function.timeout_s, function.memory_mb, function.description) == (77, 777, "seven")
    assert function.handler == "seven.handler"


def test_of_updates_at_once_of_one_revision_one_succeeds(control, name):
    revision = create(control.client(), name)["RevisionId"]

    def attempt(timeout):
        update = control.client().update_function_configuration
        changes = {"FunctionName": name, "Timeout": timeout, "RevisionId": revision}
        return unless_refused("PreconditionFailedException", update, **changes)

    with ThreadPoolExecutor(4) as pool:
        assert sum(answer is not None for answer in pool.map(attempt, range(10, 14))) == 1


@pytest.mark.parametrize("changes", [{"Timeout": 0}, {"Runtime": "python2.7"}, {"Layers": ["arn:aws:lambda:x"]}])
def test_an_update_is_held_to_the_same_rules(control, standing, changes):
    revision = control.function(standing).revision
    assert control.ask("PUT", f"/2015-03-31/functions/{standing}/configuration", changes)[0] == 400
    assert control.function(standing).revision == revision


# --- limits -----------------------------------------------------------------------------------------------------------


def test_concurrency_is_reserved_read_and_given_up_without_a_new_revision(control, client, name):
    revision = create(client, name)["RevisionId"]
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName=name)
    for limit in (0, 7):
        answer = client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=limit)
        assert answer["ReservedConcurrentExecutions"] == limit
        assert client.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == limit
    assert client.get_function(FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    assert client.delete_function_concurrency(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "Concurrency" not in client.get_function(FunctionName=name)
    assert control.function(name).revision == revision


@pytest.mark.parametrize("limit", [-1, True, "7", 1.5, None, 10**30])
def test_concurrency_is_a_whole_number(control, standing, limit):
    path = f"/2017-10-31/functions/{standing}/concurrency"
    assert control.ask("PUT", path, {"ReservedConcurrentExecutions": limit})[0] == 400


def test_an_event_invoke_config_is_put_updated_read_and_deleted(control, client, name):
    create(client, name)
    with refused("ResourceNotFoundException", 404, "doesn't have an EventInvokeConfig"):
        client.get_function_event_invoke_config(FunctionName=name)
    with refused("ResourceNotFoundException", 404, "doesn't have an EventInvokeConfig"):
        client.update_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    put = client.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnSuccess": {}, "OnFailure": {}},
    )  # fmt: skip
    assert (put["MaximumRetryAttempts"], put["MaximumEventAgeInSeconds"]) == (0, 60)
    assert put["FunctionArn"].endswith(f"{name}:$LATEST")
    assert abs(put["LastModified"].timestamp() - time.time()) < 60
    updated = client.update_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (1, 60)
    again = client.put_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=90, Qualifier="$LATEST")
    assert (again["MaximumRetryAttempts"], control.function(name).max_event_age_s) == (2, 90)
    client.delete_function_event_invoke_config(FunctionName=name)
    with refused("ResourceNotFoundException", 404):
        client.delete_function_event_invoke_config(FunctionName=name)
    assert (control.function(name).retries, control.function(name).max_event_age_s) == (2, 21_600)


@pytest.mark.parametrize(
    "body",
    [
        {"MaximumRetryAttempts": 3},
        {"MaximumEventAgeInSeconds": 59},
        {"MaximumEventAgeInSeconds": 21_601},
        {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:1:q"}}},
        {"DestinationConfig": []},
        {"DestinationConfig": {"OnFailure": "x"}},
    ],
)
def test_an_event_invoke_config_that_cannot_be_honoured_isrefused(control, standing, body):
    path = f"/2019-09-25/functions/{standing}/event-invoke-config"
    assert control.ask("PUT", path, body)[0] == 400
    assert control.function(standing).invoke_config_ms is None


def test_whatever_is_written_is_known_to_the_process_before_it_is_answered(control, client, name):
    arguments = {"FunctionName": name}
    attachments = f"/okiba/v1/functions/{name}/attachments"
    writes = [
        lambda: create(client, name),
        lambda: client.update_function_code(**arguments, ZipFile=OTHER_ZIP),
        lambda: client.update_function_configuration(**arguments, Timeout=9),
        lambda: client.put_function_concurrency(**arguments, ReservedConcurrentExecutions=1),
        lambda: client.delete_function_concurrency(**arguments),
        lambda: client.put_function_event_invoke_config(**arguments, MaximumRetryAttempts=0),
        lambda: client.delete_function_event_invoke_config(**arguments),
        lambda: control.ask("PUT", attachments, {"managed_by": "photos", "preload": ["json"]}),
        lambda: client.delete_function(**arguments),
    ]
    for number, write in enumerate(writes, 1):
        write()
        assert control.told.count(name) == number
