"""`okiba sweep`: what the store has not announced is found and handled; what it has is not handled again."""

from __future__ import annotations

import io
import json

import pytest

from tests.installation import eventually

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Plain: {Type: 'AWS::S3::Bucket', Properties: {BucketName: swept-plain}}
  Versioned: {Type: 'AWS::S3::Bucket', Properties: {BucketName: swept-versioned}}
  Note:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: note
      Runtime: python3.11
      Handler: app.handler
      CodeUri: src/
      Events:
        Plain: {Type: S3, Properties: {Bucket: !Ref Plain, Events: ['s3:ObjectCreated:*']}}
        Versioned:
          Type: S3
          Properties: {Bucket: !Ref Versioned, Events: ['s3:ObjectCreated:*', 's3:ObjectRemoved:*']}
"""
BUCKETS = ("swept-plain", "swept-versioned")
CODE = """
def handler(event, context):
    for record in event["Records"]:
        object = record["s3"]["object"]
        print("handled", record["eventName"], record["s3"]["bucket"]["name"], object["key"], object.get("versionId"))
"""


@pytest.fixture(scope="module")
def s3(okiba, tmp_path_factory):
    folder = tmp_path_factory.mktemp("note")
    (folder / "src").mkdir()
    (folder / "template.yaml").write_text(TEMPLATE)
    (folder / "src" / "app.py").write_text(CODE)
    s3 = okiba.client("s3")
    s3.create_bucket(Bucket="swept-plain")
    s3.put_object(Bucket="swept-plain", Key="before-the-binding", Body=b"old")
    s3.create_bucket(Bucket="swept-versioned")
    s3.put_bucket_versioning(Bucket="swept-versioned", VersioningConfiguration={"Status": "Enabled"})
    okiba.deploy(folder)
    return s3


def handled(okiba) -> list[str]:
    return [line for line in okiba.okiba("logs", "note").stdout.splitlines() if "handled " in line]


def sweep(okiba, *arguments: str) -> dict[str, int]:
    """How much each bucket's sweep has found; of both buckets unless told otherwise."""
    buckets = arguments or BUCKETS
    passes = json.loads(okiba.okiba("sweep", "--json", *buckets, timeout=120).stdout)
    assert {each["state"] for each in passes} == {"done"}
    return {each["bucket"]: each["found"] for each in passes}


def silenced(s3, bucket: str):
    """The bucket announces nothing, until the returned function is called."""
    told = s3.get_bucket_notification_configuration(Bucket=bucket)
    told.pop("ResponseMetadata")
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    return lambda: s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=told)


def test_what_was_announced_is_known_however_it_was_written(okiba, s3):
    for bucket in BUCKETS:
        s3.put_object(Bucket=bucket, Key="put ü+%.txt", Body=b"x")
        s3.put_object(Bucket=bucket, Key="empty/folder/")
        s3.upload_fileobj(io.BytesIO(b"y" * (9 << 20)), bucket, "multipart.bin")
        s3.copy_object(Bucket=bucket, Key="copied", CopySource={"Bucket": bucket, "Key": "put ü+%.txt"})
    s3.put_object(Bucket="swept-versioned", Key="copied", Body=b"again")
    s3.delete_object(Bucket="swept-versioned", Key="copied")
    eventually(lambda: len(handled(okiba)) >= 10, 30)

    assert sweep(okiba) == {"swept-plain": 0, "swept-versioned": 0}
    assert {each["bucket"] for each in json.loads(okiba.okiba("sweep", "--json").stdout)} >= set(BUCKETS)
    assert len(handled(okiba)) == 10


def test_what_was_not_announced_is_found_and_handled_once(okiba, s3):
    before, repaired = len(handled(okiba)), okiba.metric("okiba_events_repaired_total")
    again = [silenced(s3, bucket) for bucket in BUCKETS]
    s3.put_object(Bucket="swept-plain", Key="quiet", Body=b"x")
    s3.put_object(Bucket="swept-versioned", Key="quiet", Body=b"1")
    s3.put_object(Bucket="swept-versioned", Key="quiet", Body=b"2")
    s3.delete_object(Bucket="swept-versioned", Key="quiet")
    for announce in again:
        announce()

    sweep(okiba)  # unless one that follows every start was faster
    found = eventually(lambda: handled(okiba)[before:] if len(handled(okiba)) >= before + 4 else None, 30)
    assert sum("ObjectRemoved:DeleteMarkerCreated" in line for line in found) == 1
    assert sweep(okiba) == {"swept-plain": 0, "swept-versioned": 0}
    assert len(handled(okiba)) == before + 4
    assert okiba.metric("okiba_events_repaired_total") == repaired + 4, "no lane told of them"


def test_what_was_there_before_the_binding_is_handled_when_that_is_asked_for(okiba, s3):
    assert not any("before-the-binding" in line for line in handled(okiba))

    before = len(handled(okiba))
    assert sweep(okiba, "swept-plain", "--existing") == {"swept-plain": 1}
    eventually(lambda: any("before-the-binding" in line for line in handled(okiba)), 30)
    assert len(handled(okiba)) == before + 1
    assert "done" in okiba.okiba("sweep", "--status").stdout


def test_a_bucket_that_no_function_is_bound_to_is_refused(okiba, s3):
    ran = okiba.okiba("sweep", "nobodys-bucket", check=False)
    assert ran.returncode == 1
    assert "no function is bound to a bucket nobodys-bucket" in ran.stderr


def test_a_paused_function_s_events_wait_and_are_handled_when_it_is_resumed(okiba, s3):
    before = len(handled(okiba))
    okiba.okiba("pause", "note")
    assert "Paused" in okiba.okiba("list").stdout
    s3.put_object(Bucket="swept-plain", Key="patient", Body=b"x")
    eventually(lambda: okiba.metric("okiba_queue_depth", function="note") == 1, 30)
    event = {"Records": [{"eventName": "called", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]}
    assert okiba.invoke("note", event)[0] is None, "calls are answered"
    assert len(handled(okiba)) == before + 1

    okiba.okiba("resume", "note")

    eventually(lambda: len(handled(okiba)) == before + 2, 30)
    assert "patient" in handled(okiba)[-1]


def test_a_dead_letter_is_redriven_as_the_same_event(okiba, s3):
    okiba.deploy_inline("flaky", "def handler(event, context):\n    raise ValueError(event['n'])\n")
    lambdas = okiba.client("lambda")
    lambdas.put_function_event_invoke_config(FunctionName="flaky", MaximumRetryAttempts=0)
    told = [lambdas.invoke(FunctionName="flaky", InvocationType="Event", Payload=b'{"n": %d}' % n) for n in (1, 2)]
    ids = {each["ResponseMetadata"]["RequestId"] for each in told}

    def letters() -> list[dict[str, object]]:
        return json.loads(okiba.okiba("dlq", "list", "flaky", "--json").stdout)

    eventually(lambda: {each["request_id"] for each in letters()} == ids, 30)
    before = {each["id"] for each in letters()}
    assert "2 redriven" in okiba.okiba("dlq", "redrive", "flaky", "--all").stdout
    eventually(lambda: len(letters()) == 2 and not before & {each["id"] for each in letters()}, 30)
    assert {each["request_id"] for each in letters()} == ids
    okiba.okiba("dlq", "purge", "flaky", str(letters()[0]["id"]))
    assert len(letters()) == 1
    refused = okiba.okiba("dlq", "redrive", "flaky", check=False)
    assert refused.returncode == 2
