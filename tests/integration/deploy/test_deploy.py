"""`okiba deploy` and the client commands against a whole Okiba: real gateway, controller, jobs, Valkey and MinIO."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.installation import Installation, eventually, installation
from tests.servers import minio_binary

EXAMPLE = Path(__file__).parents[3] / "examples/01-thumbnails"

pytestmark = [
    pytest.mark.skipif(minio_binary() is None, reason="no MinIO binary: set OKIBA_MINIO, or run `make setup`"),
    pytest.mark.timeout(300),
]

TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Parameters:
  Greeting: {Type: String, Default: hello}
Resources:
  Inbox: {Type: AWS::S3::Bucket}
  Greet:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src
      Handler: app.handler
      Runtime: python3.11
      Timeout: 5
      Tracing: Active
      ReservedConcurrentExecutions: 2
      Tags: {team: photos}
      EventInvokeConfig: {MaximumRetryAttempts: 0}
      Environment: {Variables: {GREETING: !Ref Greeting, BUCKET: !Ref Inbox}}
      Policies: [S3CrudPolicy: {BucketName: !Ref Inbox}]
      Events:
        Put:
          Type: S3
          Properties:
            Bucket: !Ref Inbox
            Events: s3:ObjectCreated:*
            Filter: {S3Key: {Rules: [{Name: prefix, Value: in/}]}}
"""

CODE = """\
import os
import boto3

s3 = boto3.client("s3")

def handler(event, context):
    if "fail" in event:
        raise ValueError(event["fail"])
    for record in event.get("Records", []):
        key = record["s3"]["object"]["key"]
        s3.put_object(Bucket=os.environ["BUCKET"], Key="out/" + key, Body=b"seen")
    print("greeting", os.environ["GREETING"])
    return os.environ["GREETING"]
"""


@pytest.fixture(scope="module")
def okiba() -> Iterator[Installation]:
    with installation() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "greetings"
    (folder / "src").mkdir(parents=True)
    (folder / "template.yaml").write_text(TEMPLATE)
    (folder / "src/app.py").write_text(CODE)
    return folder


def deployed(okiba: Installation, project: Path, *arguments: str) -> dict[str, object]:
    """What `okiba deploy --json` says of the one function."""
    told = json.loads(okiba.okiba("deploy", str(project), "--json", *arguments).stdout)
    return dict(told["functions"][0])


def test_a_template_is_deployed_invoked_changed_and_deleted(okiba: Installation, project: Path) -> None:
    first = okiba.okiba("deploy", str(project), "--json")
    told = json.loads(first.stdout)
    assert told["stack"] == "greetings"
    assert told["buckets"] == ["greetings-inbox"]
    assert told["functions"] == [{"name": "greetings-Greet", "change": "created", "parts": []}]
    assert "template.yaml:13: Tracing has no effect" in first.stderr

    called = okiba.okiba("invoke", "greetings-Greet", "--tail")
    assert called.stdout == '"hello"\n'
    assert "greeting hello" in called.stderr

    revision = okiba.client("lambda").get_function(FunctionName="greetings-Greet")["Configuration"]["RevisionId"]
    assert deployed(okiba, project)["change"] == "unchanged"
    again = okiba.client("lambda").get_function(FunctionName="greetings-Greet")["Configuration"]["RevisionId"]
    assert again == revision

    changed = deployed(okiba, project, "--parameter", "Greeting=good day")
    assert (changed["change"], changed["parts"]) == ("updated", ["configuration"])
    assert okiba.okiba("invoke", "greetings-Greet").stdout == '"good day"\n'

    text = TEMPLATE.replace("ReservedConcurrentExecutions: 2", "Description: x").replace("Attempts: 0", "Attempts: 1")
    (project / "template.yaml").write_text(text.replace("in/", "into/"))
    (project / "src/more.py").write_text("")
    everything = ["code", "configuration", "concurrency", "retries", "events, policies and layer"]
    assert deployed(okiba, project)["parts"] == everything
    assert deployed(okiba, project)["change"] == "unchanged"

    assert "greetings-Greet" in okiba.okiba("list").stdout
    eventually(lambda: "greeting good day" in okiba.okiba("logs", "greetings-Greet").stdout)
    okiba.okiba("delete", "greetings-Greet", "--yes")
    gone = okiba.okiba("invoke", "greetings-Greet", check=False)
    assert gone.returncode == 1
    assert "Function not found" in gone.stderr


def test_what_is_put_under_the_prefix_reaches_the_function_with_its_own_keys(
    okiba: Installation, project: Path
) -> None:
    okiba.deploy(project, "--stack", "events")
    s3 = okiba.client("s3")
    s3.put_object(Bucket="events-inbox", Key="elsewhere", Body=b"1")
    s3.put_object(Bucket="events-inbox", Key="in/photo", Body=b"1")
    eventually(lambda: s3.head_object(Bucket="events-inbox", Key="out/in/photo"))
    found = [entry["Key"] for entry in s3.list_objects_v2(Bucket="events-inbox")["Contents"]]
    assert found == ["elsewhere", "in/photo", "out/in/photo"]


def test_a_failing_event_ends_among_the_dead_letters(okiba: Installation, project: Path) -> None:
    okiba.deploy(project, "--stack", "failing")
    okiba.okiba("invoke", "failing-Greet", "--async", "--payload", '{"fail": "for good"}')
    eventually(lambda: "for good" in okiba.okiba("dlq", "list", "failing-Greet").stdout)
    (letter,) = json.loads(okiba.okiba("dlq", "list", "failing-Greet", "--json").stdout)
    shown = okiba.okiba("dlq", "show", "failing-Greet", letter["id"]).stdout
    assert "ValueError: for good" in shown
    assert '"fail": "for good"' in shown


def test_a_function_of_another_stack_is_left_alone(okiba: Installation, project: Path) -> None:
    text = TEMPLATE.replace("CodeUri: src", "FunctionName: shared\n      CodeUri: src")
    (project / "template.yaml").write_text(text)
    okiba.deploy(project, "--stack", "one")
    refused = okiba.okiba("deploy", str(project), "--stack", "two", check=False)
    assert refused.returncode == 1
    assert "shared exists and is managed by stack one, not by stack two" in refused.stderr


def test_a_function_that_its_template_lost_is_told_of_and_goes_on(okiba: Installation, project: Path) -> None:
    okiba.deploy(project, "--stack", "renamed")
    (project / "template.yaml").write_text(TEMPLATE.replace("Greet:", "Hail:"))
    warned = okiba.okiba("deploy", str(project), "--stack", "renamed").stderr
    assert "renamed-Greet is no more in the template and goes on running" in warned
    assert okiba.okiba("invoke", "renamed-Greet").stdout == '"hello"\n'


def test_a_deployment_that_was_interrupted_after_its_first_step_is_finished_by_the_next(
    okiba: Installation, project: Path
) -> None:
    from tests.installation import zipped

    okiba.client("lambda").create_function(
        FunctionName="broken-Greet",
        Runtime="python3.11",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/okiba",
        Code={"ZipFile": zipped({"app.py": "half"})},
        Tags={"team": "photos", "okiba:stack": "broken"},
    )
    assert deployed(okiba, project, "--stack", "broken")["change"] == "updated"
    assert okiba.okiba("invoke", "broken-Greet").stdout == '"hello"\n'


def test_requirements_that_do_not_exist_fail_the_deployment_with_their_reason(
    okiba: Installation, project: Path
) -> None:
    (project / "src/requirements.txt").write_text("okiba-no-such-package==9.9.9\n")
    failed = okiba.okiba("deploy", str(project), "--stack", "wanting", check=False)
    assert failed.returncode == 1
    assert "okiba-no-such-package" in failed.stderr
    (project / "src/requirements.txt").unlink()
    assert deployed(okiba, project, "--stack", "wanting")["change"] == "updated"


def test_a_refused_template_touches_nothing(okiba: Installation, project: Path) -> None:
    (project / "template.yaml").write_text(TEMPLATE.replace("Timeout: 5", "Layers: [x]"))
    refused = okiba.okiba("deploy", str(project), "--stack", "refused", check=False)
    assert refused.returncode == 1
    assert "template.yaml:12: Layers is refused" in refused.stderr
    assert "refused-inbox" not in [bucket["Name"] for bucket in okiba.client("s3").list_buckets()["Buckets"]]


def test_the_thumbnail_example_makes_thumbnails_of_a_photo(okiba: Installation) -> None:
    okiba.deploy(EXAMPLE)
    photo = io.BytesIO()
    Image.effect_noise((1200, 800), 60).convert("RGB").save(photo, "JPEG")
    s3 = okiba.client("s3")
    s3.put_object(Bucket="photos", Key="a b.jpg", Body=photo.getvalue())
    for size, pixels in (("web", (480, 320)), ("tablet", (320, 213)), ("mobile", (160, 107))):
        key = f"a b.jpg/{size}.jpg"
        stored = eventually(lambda key=key: s3.get_object(Bucket="thumbnails", Key=key)["Body"].read())
        assert Image.open(io.BytesIO(stored)).size == pixels


def test_two_projects_in_folders_of_one_name_do_not_touch_each_other(okiba: Installation, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine/shop", tmp_path / "theirs/shop"
    for folder, answer in ((mine, 1), (theirs, 2)):
        (folder / "src").mkdir(parents=True)
        (folder / "src/app.py").write_text(f"def handler(event, context):\n    return {answer}\n")
        (folder / "template.yaml").write_text(
            "Transform: AWS::Serverless-2016-10-31\nResources:\n  Buy:\n    Type: AWS::Serverless::Function\n"
            "    Properties: {CodeUri: src, Handler: app.handler, Runtime: python3.11}\n"
        )
    okiba.deploy(mine)
    refused = okiba.okiba("deploy", str(theirs), check=False)
    assert refused.returncode == 1
    assert f"{mine}/template.yaml, and this is" in refused.stderr
    okiba.deploy(theirs, "--stack", "their-shop")
    assert [okiba.invoke(name)[0] for name in ("shop-Buy", "their-shop-Buy")] == [1, 2]
    moved = tmp_path / "moved/shop"
    mine.parent.rename(moved.parent)
    okiba.deploy(moved, "--stack", "shop")
    assert deployed(okiba, moved)["change"] == "unchanged"
