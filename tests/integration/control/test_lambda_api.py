"""Lambda's operations as boto3 sees them; botocore itself checks every shape and error."""

import base64
import hashlib
import io
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import boto3
import botocore.session
import pytest
import urllib3
from botocore.exceptions import ClientError

from okiba.apps.gateway.lambda_operations import missing
from okiba.core.errors import UnsupportedOperation
from okiba.core.function import State, UpdateStatus
from okiba.ports import Work
from tests.integration.control.conftest import MACHINE
from tests.unit.control.archives import Archive, Member, lawful

ZIP = lawful({"app.py": b"def handler(event, context): return event\n"})
OTHER_ZIP = lawful({"app.py": b"def handler(event, context): return 2\n"})
ROLE = "arn:aws:iam::000000000000:role/any"


@pytest.fixture
def name():
    return f"f-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def client(control):
    return control.client()


def _create(client, name, **changes):
    wanted = {"Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": ZIP}}
    return client.create_function(FunctionName=name, **{**wanted, **changes})


def _sha256(content):
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _refused(code, status, message=""):
    """A context in which the call must be refused so."""
    return _Refused(code, status, message)


class _Refused:
    def __init__(self, code, status, message):
        self._expected, self._message = (code, status), message

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        assert isinstance(error, ClientError), f"expected {self._expected}, got {error!r}"
        told = error.response
        assert (told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"]) == self._expected, told
        assert re.search(self._message, told["Error"]["Message"]), told["Error"]["Message"]
        assert uuid.UUID(told["ResponseMetadata"]["RequestId"])
        return True


# --- creating -------------------------------------------------------------------------------------------------------


def test_a_function_is_created_with_lambdas_own_defaults(client, name):
    answer = _create(client, name)
    metadata = answer.pop("ResponseMetadata")
    assert (metadata["HTTPStatusCode"], bool(uuid.UUID(metadata["RequestId"]))) == (201, True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", answer.pop("LastModified"))
    assert uuid.UUID(answer.pop("RevisionId"))
    assert answer == {
        "FunctionName": name,
        "FunctionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "CodeSize": len(ZIP),
        "CodeSha256": _sha256(ZIP),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "PackageType": "Zip",
        "Architectures": [MACHINE],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
    }


def test_what_a_function_was_created_with_is_read_back(client, name):
    variables = {"Variables": {"GREETING": "hällo", "X1": ""}}
    _create(
        client, name, Description="d", Timeout=900, MemorySize=10_240, Environment=variables, Tags={"team": "photos"},
        Architectures=[MACHINE], EphemeralStorage={"Size": 512}, TracingConfig={"Mode": "PassThrough"}, Publish=False,
        PackageType="Zip", SnapStart={"ApplyOn": "None"}, VpcConfig={"SubnetIds": [], "SecurityGroupIds": []},
        LoggingConfig={"LogFormat": "Text"}, Layers=[], DeadLetterConfig={},
    )  # fmt: skip
    answer = client.get_function(FunctionName=name)
    configuration = answer["Configuration"]
    assert (configuration["Timeout"], configuration["MemorySize"]) == (900, 10_240)
    assert (configuration["Description"], configuration["Environment"]) == ("d", variables)
    assert answer["Tags"] == {"team": "photos"}


def test_each_function_gets_a_key_pair_of_its_own(control, client, name):
    _create(client, name)
    function = control.function(name)
    principal = control.run(lambda parts: parts.keys.get(function.access_key))
    assert (principal.name, principal.enabled) == (name, True)
    assert re.fullmatch(r"OKIA[A-Z2-7]{16}", principal.access_key)
    assert len(principal.secret) == 40


def test_the_code_is_had_where_get_function_says(client, name):
    _create(client, name)
    code = client.get_function(FunctionName=name)["Code"]
    assert code["RepositoryType"] == "S3"
    assert urllib3.request("GET", code["Location"]).data == ZIP


def test_a_name_is_taken_once(client, name):
    _create(client, name)
    with _refused("ResourceConflictException", 409, f"Function already exist: {name}"):
        _create(client, name)


def test_of_many_who_create_one_name_at_once_one_succeeds(control, name):
    def attempt(_):
        try:
            return _create(control.client(), name)["RevisionId"]
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ResourceConflictException"
            return None

    with ThreadPoolExecutor(4) as pool:
        revisions = [revision for revision in pool.map(attempt, range(4)) if revision]
    assert revisions == [control.function(name).revision]
    keys = control.run(lambda parts: parts.keys.all())
    assert [key.access_key for key in keys if key.name == name] == [control.function(name).access_key]


def test_a_function_is_created_from_a_bucket(control, client, name, tmp_path):
    s3 = _s3(control)
    s3.create_bucket(Bucket=f"code-{name}")
    s3.put_object(Bucket=f"code-{name}", Key="pack age+ü.zip", Body=ZIP)
    answer = _create(client, name, Code={"S3Bucket": f"code-{name}", "S3Key": "pack age+ü.zip"})
    assert answer["CodeSha256"] == _sha256(ZIP)


def test_a_package_that_is_not_in_the_bucket_is_the_callers_mistake(client, name):
    with _refused("InvalidParameterValueException", 400, "does not exist"):
        _create(client, name, Code={"S3Bucket": "nobodys-bucket", "S3Key": "k"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"Runtime": "nodejs20.x"}, "nodejs20.x' is not supported; python3.10", id="another language"),
        pytest.param({"Runtime": "python3.12"}, "python3.12 is not installed on this machine", id="a missing Python"),
        pytest.param({"Timeout": 901}, "less than or equal to 900", id="a timeout of 901 s"),
        pytest.param({"MemorySize": 10_241}, "less than or equal to 10240", id="memory over 10,240 MB"),
        pytest.param({"Handler": "x" * 129}, "'handler' failed", id="a handler of 129 characters"),
        pytest.param({"Description": "x" * 257}, "'description' failed", id="a description of 257 characters"),
        pytest.param({"Publish": True}, "Publish: versions are not supported", id="a version"),
        pytest.param({"Layers": ["arn:aws:lambda:us-east-1:1:layer:x:1"]}, "Layers: layer ARNs", id="a layer's ARN"),
        pytest.param({"VpcConfig": {"SubnetIds": ["subnet-1"]}}, "VpcConfig", id="a VPC"),
        pytest.param(
            {"FileSystemConfigs": [{"Arn": "arn:aws:elasticfilesystem:x", "LocalMountPath": "/mnt/a"}]},
            "FileSystemConfigs", id="a file system",
        ),
        pytest.param({"PackageType": "Image", "Code": {"ImageUri": "x"}}, "container images", id="an image"),
        pytest.param({"SnapStart": {"ApplyOn": "PublishedVersions"}}, "SnapStart", id="SnapStart"),
        pytest.param({"DurableConfig": {"ExecutionTimeout": 60}}, "DurableConfig", id="a durable function"),
        pytest.param({"TracingConfig": {"Mode": "Active"}}, "TracingConfig", id="tracing"),
        pytest.param({"EphemeralStorage": {"Size": 1024}}, "EphemeralStorage", id="a larger /tmp"),
        pytest.param({"LoggingConfig": {"LogFormat": "JSON"}}, "LoggingConfig", id="JSON logs"),
        pytest.param({"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:1:q"}}, "DeadLetterConfig", id="a queue"),
        pytest.param({"KMSKeyArn": "arn:aws:kms:x"}, "KMSKeyArn", id="a KMS key"),
        pytest.param({"Architectures": ["arm64" if MACHINE == "x86_64" else "x86_64"]}, "which is", id="another machine"),
        pytest.param({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "reserved keys.*AWS_REGION", id="a reserved name"),
        pytest.param({"Environment": {"Variables": {"_HANDLER": "x"}}}, "reserved keys", id="another reserved name"),
        pytest.param({"Environment": {"Variables": {"A-B": "x"}}}, "regular expression", id="a bad variable name"),
        pytest.param({"Environment": {"Variables": {"BIG": "x" * 4_096}}}, "4KB limit", id="an environment over 4 kB"),
        pytest.param({"Environment": {"Variables": {"NUL": "a\0b"}}}, "NUL", id="a NUL in a variable"),
        pytest.param({"Code": {}}, "Please provide a source", id="no code"),
        pytest.param({"Code": {"ZipFile": b"no zip"}}, "Could not unzip", id="code that is no zip"),
        pytest.param({"Code": {"ZipFile": ZIP, "S3Bucket": "bbb", "S3Key": "k"}}, "do not provide other", id="code twice"),
        pytest.param(
            {"Code": {"ZipFile": Archive([Member("../evil.py")]).bytes()}}, "not a plain path", id="a hostile zip"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(control, client, name, changes, message):
    with _refused("InvalidParameterValueException", 400, message):
        _create(client, name, **changes)
    assert control.function(name) is None
    assert list(control.spool.iterdir()) == []


def test_an_environment_of_exactly_4_kb_is_accepted(client, name):
    _create(client, name, Environment={"Variables": {"BIG": "x" * (4_096 - len('{"BIG":""}'))}})


@pytest.mark.parametrize("missing_field", ["Runtime", "Handler"])
def test_runtime_and_handler_are_needed(client, name, missing_field):
    wanted = {"Runtime": "python3.11", "Handler": "app.handler"}
    del wanted[missing_field]
    with _refused("InvalidParameterValueException", 400, "mandatory parameters"):
        client.create_function(FunctionName=name, Role=ROLE, Code={"ZipFile": ZIP}, **wanted)


@pytest.mark.parametrize("bad_name", ["a/b", "x" * 65, "admin", "näme", "a b"])
def test_what_no_function_may_be_called_is_refused(client, bad_name):
    with _refused("InvalidParameterValueException", 400):
        _create(client, bad_name)


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference",
    ["{}", "{}:$LATEST", "000000000000:function:{}", "arn:aws:lambda:us-east-1:000000000000:function:{}"],
)
def test_a_function_is_found_by_any_of_its_names(client, name, reference):
    _create(client, name)
    answer = client.get_function_configuration(FunctionName=reference.format(name))
    assert answer["FunctionName"] == name
    assert answer["FunctionArn"].endswith(":$LATEST" if "$LATEST" in reference else name)


@pytest.mark.parametrize("operation", ["get_function", "get_function_configuration", "delete_function"])
def test_a_function_that_does_not_exist_is_not_found(client, name, operation):
    with _refused("ResourceNotFoundException", 404, f"Function not found: arn:aws:lambda:.*:{name}"):
        getattr(client, operation)(FunctionName=name)


def test_there_are_no_versions_and_aliases(client, name):
    _create(client, name)
    with _refused("ResourceNotFoundException", 404, f"{name}:prod"):
        client.get_function(FunctionName=name, Qualifier="prod")


def test_boto3s_waiters_see_the_controller_finish(control, client, name):
    _create(client, name)
    control.prepare(name)
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 1})
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 1})


def test_a_function_that_cannot_be_prepared_says_why(control, client, name):
    _create(client, name)
    control.prepare(name, state=State.FAILED, state_reason="no such package", state_reason_code="InvalidConfiguration")
    told = client.get_function_configuration(FunctionName=name)
    assert (told["State"], told["StateReason"]) == ("Failed", "no such package")


def test_functions_are_listed_page_by_page(client):
    stem = uuid.uuid4().hex[:8]
    names = [f"{stem}-{number}" for number in range(5)]
    for name in names:
        _create(client, name)
    pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    listed = [function for page in pages for function in page["Functions"]]
    assert [function["FunctionName"] for function in listed if function["FunctionName"].startswith(stem)] == names
    assert "State" not in listed[0]
    every = client.list_functions(FunctionVersion="ALL", MaxItems=1)["Functions"]
    assert every[0]["FunctionArn"].endswith(":$LATEST")


@pytest.mark.parametrize("query", ["MaxItems=0", "MaxItems=x", "MaxItems=10001", "MaxItems=%D9%A3", "Marker=%F0", "Marker=!"])
def test_a_page_that_cannot_be_is_refused(control, query):
    assert control.ask("GET", f"/2015-03-31/functions?{query}")[0] == 400


# --- updating -------------------------------------------------------------------------------------------------------


def test_an_update_of_a_function_that_is_active_leaves_it_active(control, client, name):
    created = _create(client, name)
    control.prepare(name)
    updated = client.update_function_configuration(FunctionName=name, Timeout=7, Description="")
    assert (updated["State"], updated["LastUpdateStatus"], updated["Timeout"]) == ("Active", "InProgress", 7)
    assert updated["RevisionId"] != created["RevisionId"]
    control.prepare(name)
    assert client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Successful"


def test_an_update_of_a_function_that_never_was_active_makes_it_pending(control, client, name):
    _create(client, name)
    control.prepare(name, state=State.FAILED, state_reason="no such package")
    assert client.update_function_code(FunctionName=name, ZipFile=OTHER_ZIP)["State"] == "Pending"


def test_an_update_that_failed_says_why_and_the_function_stays_active(control, client, name):
    _create(client, name)
    control.prepare(name)
    client.update_function_configuration(FunctionName=name, Timeout=7)

    async def fail(parts):
        function = await parts.registry.get(name)
        from dataclasses import replace

        failed = replace(function, last_update=UpdateStatus.FAILED, last_update_reason="because")
        await parts.registry.put(failed, replaces=function.revision)

    control.run(fail)
    told = client.get_function_configuration(FunctionName=name)
    assert (told["State"], told["LastUpdateStatus"], told["LastUpdateStatusReason"]) == ("Active", "Failed", "because")


def test_new_code_is_stored_and_told(client, name):
    created = _create(client, name)
    updated = client.update_function_code(FunctionName=name, ZipFile=OTHER_ZIP)
    assert (updated["CodeSha256"], updated["CodeSize"]) == (_sha256(OTHER_ZIP), len(OTHER_ZIP))
    assert updated["RevisionId"] != created["RevisionId"]
    assert urllib3.request("GET", client.get_function(FunctionName=name)["Code"]["Location"]).data == OTHER_ZIP


def test_a_dry_run_checks_the_code_and_changes_nothing(client, name):
    created = _create(client, name)
    dry = client.update_function_code(FunctionName=name, ZipFile=OTHER_ZIP, DryRun=True)
    assert dry["CodeSha256"] == _sha256(OTHER_ZIP)
    assert client.get_function_configuration(FunctionName=name)["RevisionId"] == created["RevisionId"]
    with _refused("InvalidParameterValueException", 400):
        client.update_function_code(FunctionName=name, ZipFile=b"no zip", DryRun=True)


def test_what_an_update_does_not_name_stays(client, name):
    _create(client, name, Timeout=9, Environment={"Variables": {"KEEP": "1"}})
    updated = client.update_function_configuration(FunctionName=name, MemorySize=256)
    assert (updated["Timeout"], updated["Environment"]["Variables"]) == (9, {"KEEP": "1"})


def test_an_empty_environment_takes_the_variables_away(client, name):
    _create(client, name, Environment={"Variables": {"GONE": "1"}})
    assert "Environment" not in client.update_function_configuration(FunctionName=name, Environment={"Variables": {}})


@pytest.mark.parametrize("operation", ["update_function_configuration", "update_function_code"])
def test_an_update_of_another_revision_is_refused(client, name, operation):
    created = _create(client, name)
    changes = {"ZipFile": OTHER_ZIP} if operation == "update_function_code" else {"Timeout": 5}
    getattr(client, operation)(FunctionName=name, RevisionId=created["RevisionId"], **changes)
    with _refused("PreconditionFailedException", 412, "Revision Id provided does not match"):
        getattr(client, operation)(FunctionName=name, RevisionId=created["RevisionId"], **changes)


def test_updates_at_once_lose_none_of_each_other(control, name):
    """Each names another field, so all must stand in the end; who loses five races is told so and comes again."""
    _create(control.client(), name)
    updates = [{"Timeout": 77}, {"MemorySize": 777}, {"Description": "seven"}, {"Handler": "seven.handler"}]

    def attempt(changes):
        for _ in range(20):
            try:
                return control.client().update_function_configuration(FunctionName=name, **changes)
            except ClientError as error:
                assert error.response["Error"]["Code"] == "ResourceConflictException"
        raise AssertionError("never came through")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attempt, updates))
    function = control.function(name)
    assert (function.timeout_s, function.memory_mb, function.description) == (77, 777, "seven")
    assert function.handler == "seven.handler"


def test_of_updates_at_once_of_one_revision_one_succeeds(control, name):
    revision = _create(control.client(), name)["RevisionId"]

    def attempt(timeout):
        try:
            return control.client().update_function_configuration(
                FunctionName=name, Timeout=timeout, RevisionId=revision
            )
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailedException"
            return None

    with ThreadPoolExecutor(4) as pool:
        assert sum(answer is not None for answer in pool.map(attempt, range(10, 14))) == 1


@pytest.mark.parametrize("changes", [{"Timeout": 0}, {"Runtime": "python2.7"}, {"Layers": ["arn:aws:lambda:x"]}])
def test_an_update_is_held_to_the_same_rules(control, client, name, changes):
    revision = _create(client, name)["RevisionId"]
    path = f"/2015-03-31/functions/{name}/configuration"
    assert control.ask("PUT", path, changes)[0] == 400
    assert control.function(name).revision == revision


# --- deleting -------------------------------------------------------------------------------------------------------


def test_a_deleted_function_leaves_neither_keys_nor_open_work(control, client, name):
    _create(client, name)
    function = control.function(name)
    work = Work(name, "e", str(uuid.uuid4()), b"{}", "invoke", time.time_ns() // 1_000_000)
    control.run(lambda parts: parts.queue.accept([work]))
    assert client.delete_function(FunctionName=name)["StatusCode"] == 200
    assert control.function(name) is None
    assert control.run(lambda parts: parts.keys.get(function.access_key)) is None
    letters = control.run(lambda parts: parts.queue.dead_letters(name, "", 10))
    assert [letter.reason for letter in letters] == ["FunctionDeleted"]


def test_a_function_may_be_made_again_and_is_another(control, client, name):
    first = _create(client, name)["RevisionId"]
    key = control.function(name).access_key
    client.delete_function(FunctionName=name)
    assert _create(client, name)["RevisionId"] != first
    assert control.function(name).access_key != key


def test_the_latest_version_is_not_deleted_alone(control, client, name):
    _create(client, name)
    path = f"/2015-03-31/functions/{name}?Qualifier=%24LATEST"
    assert control.ask("DELETE", path)[0] == 400
    assert control.function(name) is not None


# --- limits ---------------------------------------------------------------------------------------------------------


def test_concurrency_is_reserved_read_and_given_up_without_a_new_revision(control, client, name):
    revision = _create(client, name)["RevisionId"]
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
def test_concurrency_is_a_whole_number(control, client, name, limit):
    _create(client, name)
    path = f"/2017-10-31/functions/{name}/concurrency"
    assert control.ask("PUT", path, {"ReservedConcurrentExecutions": limit})[0] == 400


def test_an_event_invoke_config_is_put_updated_read_and_deleted(control, client, name):
    _create(client, name)
    with _refused("ResourceNotFoundException", 404, "doesn't have an EventInvokeConfig"):
        client.get_function_event_invoke_config(FunctionName=name)
    with _refused("ResourceNotFoundException", 404, "doesn't have an EventInvokeConfig"):
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
    with _refused("ResourceNotFoundException", 404):
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
def test_an_event_invoke_config_that_cannot_be_honoured_is_refused(control, client, name, body):
    _create(client, name)
    path = f"/2019-09-25/functions/{name}/event-invoke-config"
    assert control.ask("PUT", path, body)[0] == 400
    assert control.function(name).invoke_config_ms is None


# --- what is not there ----------------------------------------------------------------------------------------------


def test_an_operation_that_okiba_does_not_have_is_named(client, name):
    with _refused("Okiba.Unsupported", 501, "PublishVersion"):
        client.publish_version(FunctionName=name)
    with _refused("Okiba.Unsupported", 501, "CreateEventSourceMapping"):
        client.create_event_source_mapping(FunctionName=name, EventSourceArn="arn:aws:sqs:us-east-1:0:q")


SERVED = {
    "CreateFunction", "UpdateFunctionCode", "UpdateFunctionConfiguration", "GetFunction", "GetFunctionConfiguration",
    "ListFunctions", "DeleteFunction", "Invoke", "PutFunctionConcurrency", "GetFunctionConcurrency",
    "DeleteFunctionConcurrency", "PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig",
    "GetFunctionEventInvokeConfig", "DeleteFunctionEventInvokeConfig",
}  # fmt: skip


def test_every_operation_in_botocores_model_is_served_or_named():
    model = botocore.session.get_session().get_service_model("lambda")
    for operation in sorted(set(model.operation_names) - SERVED):
        http = model.operation_model(operation).http
        path = re.sub(r"\{\w+\}", "x", http["requestUri"].partition("?")[0])
        assert isinstance(missing(http["method"], path), UnsupportedOperation), operation


@pytest.mark.parametrize("path", ["/", "/2015-03-31/functions/f/nothing", "/docs", "/openapi.json", "//evil", "/2015-03-31/functions/%00"])
def test_a_path_that_nobody_has_is_not_found_in_aws_shape(control, path):
    status, headers, body = control.ask("POST", path)
    assert (status, headers["x-amzn-errortype"], body["Type"]) == (404, "UnknownOperationException", "User")


# --- bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"[" * 100_000, b'{"Timeout": NaN}', b"\xff\xfe", rb'{"Description": "\ud800"}', b'{"Timeout": 1e999}'],
)
@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("PUT", "/{}/code"), ("PUT", "/{}/configuration")])
def test_a_body_that_is_no_json_object_is_refused(control, client, name, body, method, path):
    _create(client, name)
    status, headers, told = control.ask(method, "/2015-03-31/functions" + path.format(name), body)
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException")
    assert told["Type"] == "User"


@pytest.mark.parametrize("field", ["Timeout", "MemorySize", "Description", "Handler", "Role", "Runtime", "Environment"])
@pytest.mark.parametrize("value", [[], {"a": {}}, 1.5, True, "\x00x" * 10_000])
def test_a_field_of_the_wrong_type_is_the_callers_mistake(control, client, name, field, value):
    _create(client, name)
    status, _, _ = control.ask("PUT", f"/2015-03-31/functions/{name}/configuration", {field: value})
    harmless = field in {"Description", "Role"} and False
    assert status == 400 or harmless


def test_a_configuration_over_1_mib_is_refused(control, client, name):
    _create(client, name)
    status, headers, _ = control.ask("PUT", f"/2015-03-31/functions/{name}/configuration", b" " * 1_048_577)
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestTooLargeException")


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(control):
    status, headers, body = control.ask(
        "POST", "/2015-03-31/functions", b"{}", **{"Content-Length": "69905068", "Connection": "close"}
    )
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestTooLargeException")
    assert "69905067 bytes for the CreateFunction operation" in body["message"]


def test_a_body_that_turns_out_too_large_is_refused_and_leaves_nothing(control):
    pool = urllib3.PoolManager()
    pieces = (b" " * 1_000_000 for _ in range(75))
    try:
        answer = pool.request(
            "POST", f"{control.url}/2015-03-31/functions", body=pieces, headers={"x-test-principal": "admin"},
            retries=False, timeout=60,
        )  # fmt: skip
        assert answer.status == 413
    except urllib3.exceptions.ProtocolError:
        pass  # refused while it was still being sent
    _until(lambda: not list(control.spool.iterdir()))


def test_a_caller_who_hangs_up_leaves_nothing_behind(control):
    import socket

    host, port = control.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nx-test-principal: admin\r\nContent-Length: 1000000\r\n\r\n{"
        )
        _until(lambda: list(control.spool.iterdir()))
    _until(lambda: not list(control.spool.iterdir()))


def test_a_large_package_comes_in_while_others_are_answered(control, name):
    """20 MB that do not compress; meanwhile small requests are answered by the same process."""
    import os

    content = lawful({"app.py": b"x = 1\n", "model.bin": os.urandom(20_000_000)})
    client = control.client()
    slowest, stop = 0.0, threading.Event()

    def ask():
        nonlocal slowest
        while not stop.is_set():
            began = time.monotonic()
            control.ask("GET", "/okiba/v1/status")
            slowest = max(slowest, time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert _create(client, name, Code={"ZipFile": content})["CodeSize"] == len(content)
    finally:
        stop.set()
        asking.join()
    assert slowest < 1.0


def _until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _s3(control):
    settings = control.settings
    return boto3.client(
        "s3", "us-east-1", endpoint_url=settings.s3_endpoint, aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key,
    )  # fmt: skip
