"""Functions made, read and deleted as boto3 sees it; botocore itself checks every shape and error."""

import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

from okiba.core.function import State
from okiba.ports import Work
from tests.integration.control.conftest import MACHINE
from tests.integration.control.lambda_calls import ROLE, ZIP, create, refused, s3_client, sha256, unless_refused
from tests.unit.control.archives import Archive, Member

ANOTHER_MACHINE = "arm64" if MACHINE == "x86_64" else "x86_64"


# --- creating ---------------------------------------------------------------------------------------------------------


def test_a_function_is_created_with_lambdas_own_defaults(client, name):
    answer = create(client, name)
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
        "CodeSha256": sha256(ZIP),
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
    create(
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
    create(client, name)
    function = control.function(name)
    principal = control.run(lambda parts: parts.keys.get(function.access_key))
    assert (principal.name, principal.enabled) == (name, True)
    assert re.fullmatch(r"OKIA[A-Z2-7]{16}", principal.access_key)
    assert len(principal.secret) == 40


def test_the_code_is_had_where_get_function_says(client, name):
    create(client, name)
    code = client.get_function(FunctionName=name)["Code"]
    assert code["RepositoryType"] == "S3"
    assert urllib3.request("GET", code["Location"]).data == ZIP


def test_a_name_is_taken_once(client, name):
    create(client, name)
    with refused("ResourceConflictException", 409, f"Function already exist: {name}"):
        create(client, name)


def test_of_many_who_create_one_name_at_once_one_succeeds(control, name):
    def attempt(_):
        return unless_refused("ResourceConflictException", create, client=control.client(), name=name)

    with ThreadPoolExecutor(4) as pool:
        answers = [answer for answer in pool.map(attempt, range(4)) if answer]
    assert [answer["RevisionId"] for answer in answers] == [control.function(name).revision]
    keys = control.run(lambda parts: parts.keys.all())
    assert [key.access_key for key in keys if key.name == name] == [control.function(name).access_key]


def test_a_function_is_created_from_a_bucket(control, client, name, tmp_path):
    s3 = s3_client(control)
    s3.create_bucket(Bucket=f"code-{name}")
    s3.put_object(Bucket=f"code-{name}", Key="pack age+ü.zip", Body=ZIP)
    answer = create(client, name, Code={"S3Bucket": f"code-{name}", "S3Key": "pack age+ü.zip"})
    assert answer["CodeSha256"] == sha256(ZIP)


def test_a_package_that_is_not_in_the_bucket_is_the_callers_mistake(client, name):
    with refused("InvalidParameterValueException", 400, "does not exist"):
        create(client, name, Code={"S3Bucket": "nobodys-bucket", "S3Key": "k"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"Runtime": "nodejs20.x"}, "nodejs20.x' is not supported; python3.10", id="another language"),
        pytest.param({"Runtime": "python3.12"}, "python3.12 is not installed here; installed: ", id="a missing Python"),
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
        pytest.param({"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:x"}}, "DeadLetterConfig", id="a queue"),
        pytest.param({"KMSKeyArn": "arn:aws:kms:x"}, "KMSKeyArn", id="a KMS key"),
        pytest.param({"Architectures": [ANOTHER_MACHINE]}, "which is", id="another machine"),
        pytest.param({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "reserved.*AWS_REGION", id="a reserved name"),
        pytest.param({"Environment": {"Variables": {"_HANDLER": "x"}}}, "reserved keys", id="another reserved name"),
        pytest.param({"Environment": {"Variables": {"A-B": "x"}}}, "regular expression", id="a bad variable name"),
        pytest.param({"Environment": {"Variables": {"BIG": "x" * 4_096}}}, "4KB limit", id="an environment over 4 kB"),
        pytest.param({"Environment": {"Variables": {"NUL": "a\0b"}}}, "NUL", id="a NUL in a variable"),
        pytest.param({"Code": {}}, "Please provide a source", id="no code"),
        pytest.param({"Code": {"ZipFile": b"no zip"}}, "Could not unzip", id="code that is no zip"),
        pytest.param({"Code": {"ZipFile": ZIP, "S3Bucket": "bbb", "S3Key": "k"}}, "do not provide", id="code twice"),
        pytest.param(
            {"Code": {"ZipFile": Archive([Member("../evil.py")]).bytes()}}, "not a plain path", id="a hostile zip"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(control, client, name, changes, message):
    with refused("InvalidParameterValueException", 400, message):
        create(client, name, **changes)
    assert control.function(name) is None
    assert list(control.spool.iterdir()) == []


def test_an_environment_of_exactly_4_kb_is_accepted(client, name):
    create(client, name, Environment={"Variables": {"BIG": "x" * (4_096 - len('{"BIG":""}'))}})


@pytest.mark.parametrize("missing_field", ["Runtime", "Handler"])
def test_runtime_and_handler_are_needed(client, name, missing_field):
    wanted = {"Runtime": "python3.11", "Handler": "app.handler"}
    del wanted[missing_field]
    with refused("InvalidParameterValueException", 400, "mandatory parameters"):
        client.create_function(FunctionName=name, Role=ROLE, Code={"ZipFile": ZIP}, **wanted)


@pytest.mark.parametrize("bad_name", ["a/b", "x" * 65, "admin", "näme", "a b"])
def test_what_no_function_may_be_called_isrefused(client, bad_name):
    with refused("InvalidParameterValueException", 400):
        create(client, bad_name)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference",
    ["{}", "{}:$LATEST", "000000000000:function:{}", "arn:aws:lambda:us-east-1:000000000000:function:{}"],
)
def test_a_function_is_found_by_any_of_its_names(client, name, reference):
    create(client, name)
    answer = client.get_function_configuration(FunctionName=reference.format(name))
    assert answer["FunctionName"] == name
    assert answer["FunctionArn"].endswith(":$LATEST" if "$LATEST" in reference else name)


@pytest.mark.parametrize("operation", ["get_function", "get_function_configuration", "delete_function"])
def test_a_function_that_does_not_exist_is_not_found(client, name, operation):
    with refused("ResourceNotFoundException", 404, f"Function not found: arn:aws:lambda:.*:{name}"):
        getattr(client, operation)(FunctionName=name)


def test_there_are_no_versions_and_aliases(client, name):
    create(client, name)
    with refused("ResourceNotFoundException", 404, f"{name}:prod"):
        client.get_function(FunctionName=name, Qualifier="prod")


def test_boto3s_waiters_see_the_controller_finish(control, client, name):
    create(client, name)
    control.prepare(name)
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 1})
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 1})


def test_a_function_that_cannot_be_prepared_says_why(control, client, name):
    create(client, name)
    control.prepare(name, state=State.FAILED, state_reason="no such package", state_reason_code="InvalidConfiguration")
    told = client.get_function_configuration(FunctionName=name)
    assert (told["State"], told["StateReason"]) == ("Failed", "no such package")


def test_functions_are_listed_page_by_page(client):
    stem = uuid.uuid4().hex[:8]
    names = [f"{stem}-{number}" for number in range(5)]
    for name in names:
        create(client, name)
    pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    listed = [function for page in pages for function in page["Functions"]]
    assert [function["FunctionName"] for function in listed if function["FunctionName"].startswith(stem)] == names
    assert "State" not in listed[0]
    every = client.list_functions(FunctionVersion="ALL", MaxItems=1)["Functions"]
    assert every[0]["FunctionArn"].endswith(":$LATEST")


@pytest.mark.parametrize(
    "query", ["MaxItems=0", "MaxItems=x", "MaxItems=10001", "MaxItems=%D9%A3", "Marker=%F0", "Marker=!"]
)
def test_a_page_that_cannot_be_isrefused(control, query):
    assert control.ask("GET", f"/2015-03-31/functions?{query}")[0] == 400


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_deleted_function_leaves_neither_keys_nor_open_work(control, client, name):
    create(client, name)
    function = control.function(name)
    work = Work(name, "e", str(uuid.uuid4()), b"{}", "invoke", time.time_ns() // 1_000_000)
    control.run(lambda parts: parts.queue.accept([work]))
    assert client.delete_function(FunctionName=name)["StatusCode"] == 200
    assert control.function(name) is None
    assert control.run(lambda parts: parts.keys.get(function.access_key)) is None
    letters = control.run(lambda parts: parts.queue.dead_letters(name, "", 10))
    assert [letter.reason for letter in letters] == ["FunctionDeleted"]


def test_a_function_may_be_made_again_and_is_another(control, client, name):
    first = create(client, name)["RevisionId"]
    key = control.function(name).access_key
    client.delete_function(FunctionName=name)
    assert create(client, name)["RevisionId"] != first
    assert control.function(name).access_key != key


def test_the_latest_version_is_not_deleted_alone(control, standing):
    path = f"/2015-03-31/functions/{standing}?Qualifier=%24LATEST"
    assert control.ask("DELETE", path)[0] == 400
    assert control.function(standing) is not None


def test_functions_are_listed_at_the_path_that_older_sdks_ask(control, standing):
    status, _, told = control.ask("GET", "/2015-03-31/functions/")
    assert status == 200
    assert standing in [function["FunctionName"] for function in told["Functions"]]
