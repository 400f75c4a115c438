"""Bucket events, from the PUT to the handler: keys of every shape, garbage, forgeries, duplicates, other stores."""

import http.client
import json
import time
import uuid
from contextlib import closing

import pytest
from botocore.exceptions import ClientError

from tests.installation import eventually

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Inbox: {Type: 'AWS::S3::Bucket', Properties: {BucketName: inbox}}
  Seen: {Type: 'AWS::S3::Bucket', Properties: {BucketName: seen}}
  Tell:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: tell
      Runtime: python3.11
      Handler: app.handler
      CodeUri: src/
      Policies: [{S3CrudPolicy: {BucketName: seen}}]
      Events:
        Put:
          Type: S3
          Properties: {Bucket: !Ref Inbox, Events: ['s3:ObjectCreated:*', 's3:ObjectRemoved:*']}
"""
CODE = """
import json, os, uuid
from urllib.parse import unquote_plus
import boto3
s3 = boto3.client("s3")
def handler(event, context):
    for record in event["Records"]:
        key = unquote_plus(record["s3"]["object"]["key"])
        name = f"{record['s3']['object']['sequencer']}/{uuid.uuid4()}"
        s3.put_object(Bucket="seen", Key=name, Body=json.dumps({"key": key, "record": record}))
"""

KEYS = [
    "plain.txt",
    "with space and  two",
    "plus+plus",
    "per%cent %2F %41",
    "umlaut-äöü-日本語-🦊",
    "line\nend",
    "tab\tand'quote\"s",
    "a&b=c;d,e?f#g:h@i!j$k*(l)",
    "{{7*7}} $(id) ; rm",
    "e\u0301 decomposed",
    "deep/er/and/deeper/" + "x" * 200,
    "k" * 240 + "/" + "l" * 240 + "/" + "m" * 240 + "/" + "n" * 240 + "/" + "o" * 60,
]


@pytest.fixture(scope="module")
def tell(okiba, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tell")
    (folder / "src").mkdir()
    (folder / "src/app.py").write_text(CODE)
    (folder / "template.yaml").write_text(TEMPLATE)
    okiba.deploy(folder)
    return okiba.client("s3")


def seen(s3):
    """Everything that handlers were told, as (key, record)."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="seen")
    names = [item["Key"] for page in pages for item in page.get("Contents", [])]
    told = [json.loads(s3.get_object(Bucket="seen", Key=name)["Body"].read()) for name in names]
    return [(each["key"], each["record"]) for each in told]


@pytest.mark.parametrize("key", KEYS, ids=[ascii(key)[:40] for key in KEYS])
def test_the_handler_sees_exactly_the_key_that_was_put(tell, key):
    key = f"{uuid.uuid4().hex[:6]}/{key}"[:1024]
    tell.put_object(Bucket="inbox", Key=key, Body=b"x")
    records = eventually(lambda: [record for name, record in seen(tell) if name == key], 30)
    assert len(records) == 1


def test_the_record_has_exactly_awss_shape(tell):
    tell.put_object(Bucket="inbox", Key="shape it/a.txt", Body=b"four")
    (record,) = eventually(lambda: [record for key, record in seen(tell) if key == "shape it/a.txt"], 30)
    assert (record["eventVersion"], record["eventSource"], record["eventName"]) == (
        "2.1",
        "aws:s3",
        "ObjectCreated:Put",
    )
    names = ["awsRegion", "eventName", "eventSource", "eventTime", "eventVersion"]
    assert sorted(record) == [*names, "requestParameters", "responseElements", "s3", "userIdentity"]
    assert sorted(record["s3"]) == ["bucket", "configurationId", "object", "s3SchemaVersion"]
    assert sorted(record["s3"]["object"]) == ["eTag", "key", "sequencer", "size"]
    assert record["s3"]["object"]["key"] == "shape+it/a.txt"
    assert record["s3"]["object"]["size"] == 4
    assert record["s3"]["bucket"]["arn"] == "arn:aws:s3:::inbox"
    assert record["s3"]["configurationId"] == "Put"


def test_a_delete_is_told_without_size_and_etag(tell):
    tell.put_object(Bucket="inbox", Key="gone.txt", Body=b"x")
    tell.delete_object(Bucket="inbox", Key="gone.txt")
    removed = eventually(
        lambda: [r for key, r in seen(tell) if key == "gone.txt" and r["eventName"] == "ObjectRemoved:Delete"], 30
    )
    assert sorted(removed[0]["s3"]["object"]) == ["key", "sequencer"]


def test_multipart_and_copy_are_told_by_their_names(tell):
    upload = tell.create_multipart_upload(Bucket="inbox", Key="parts.bin")["UploadId"]
    part = tell.upload_part(Bucket="inbox", Key="parts.bin", UploadId=upload, PartNumber=1, Body=b"part")
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    tell.complete_multipart_upload(Bucket="inbox", Key="parts.bin", UploadId=upload, MultipartUpload=parts)
    tell.copy_object(Bucket="inbox", Key="copy.bin", CopySource={"Bucket": "inbox", "Key": "parts.bin"})
    names = eventually(
        lambda: (
            (found := {key: r["eventName"] for key, r in seen(tell) if key in ("parts.bin", "copy.bin")})
            and len(found) == 2
            and found
        ),
        30,
    )
    assert names == {"parts.bin": "ObjectCreated:CompleteMultipartUpload", "copy.bin": "ObjectCreated:Copy"}


# --- the webhook ---------------------------------------------------------------------------------------------------


def post(okiba, body, lane="elsewhere", token=None):
    """What a store sends; the status that it is answered."""
    token = okiba.webhook_token if token is None else token
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection(okiba.admin, timeout=30)) as connection:
        connection.request("POST", f"/webhooks/s3/{lane}", body, headers)
        response = connection.getresponse()
        response.read()
        return response


def notification(key, sequencer="0A", name="ObjectCreated:Put"):
    """AWS's own form, as any other store sends it."""
    thing = {"key": key, "size": 1, "eTag": "e", "sequencer": sequencer}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-west-1",
        "eventTime": "2026-11-22T12:00:00.000Z",
        "eventName": name,
        "userIdentity": {"principalId": "someone"},
        "requestParameters": {"sourceIPAddress": "192.0.2.1"},
        "responseElements": {"x-amz-request-id": "1", "x-amz-id-2": "2"},
        "s3": {"s3SchemaVersion": "1.0", "configurationId": "x", "bucket": {"name": "inbox"}, "object": thing},
    }
    return json.dumps({"Records": [record]})


def test_another_stores_notification_runs_the_function_too(okiba, tell):
    assert post(okiba, notification("from/elsewhere.txt")).status == 200
    eventually(lambda: [key for key, _ in seen(tell) if key == "from/elsewhere.txt"], 30)


def test_the_same_notification_a_hundred_times_on_both_lanes_has_one_effect(okiba, tell):
    for number in range(100):
        assert post(okiba, notification("told/often.txt"), lane=("direct", "queued")[number % 2]).status == 200
    post(okiba, notification("told/last.txt"))
    eventually(lambda: [key for key, _ in seen(tell) if key == "told/last.txt"], 30)
    assert len([key for key, _ in seen(tell) if key == "told/often.txt"]) == 1


GARBAGE = [
    b"",
    b"not json",
    b"[]",
    b"{}",
    b'{"Records": 7}',
    b'{"Records": [{}]}',
    b"[" * 50_000,
    b"\xff\xfe",
    b'{"Records": [NaN]}',
]


def test_garbage_is_quarantined_and_shown_and_holds_up_nothing(okiba, tell):
    before = json.loads(okiba.okiba("status", "--json").stdout)["quarantine"]["total"]
    for body in GARBAGE:
        assert post(okiba, body).status == 200
    post(okiba, notification("after/garbage.txt"))
    eventually(lambda: [key for key, _ in seen(tell) if key == "after/garbage.txt"], 30)
    status = json.loads(okiba.okiba("status", "--json").stdout)
    assert status["quarantine"]["total"] - before == len(GARBAGE)


@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000])
def test_a_forged_notification_is_refused_and_runs_nothing(okiba, tell, token):
    assert post(okiba, notification("forged.txt"), token=token).status == 403
    post(okiba, notification(f"after/forged-{len(token)}.txt"))
    eventually(lambda: [key for key, _ in seen(tell) if key == f"after/forged-{len(token)}.txt"], 30)
    assert not [key for key, _ in seen(tell) if key == "forged.txt"]


def test_while_the_store_is_away_nothing_is_taken_and_everyone_is_told_when_to_come_again(okiba, tell):
    okiba.deploy_inline("calm", "def handler(event, context):\n    return 'calm'\n")
    okiba.invoke("calm")
    with okiba.stopped("valkey"):
        response = post(okiba, notification("while/away.txt"))
        assert (response.status, response.getheader("Retry-After")) == (503, "1")
        with pytest.raises(ClientError) as refused:
            okiba.client("lambda").invoke(FunctionName="calm", InvocationType="Event")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert okiba.invoke("calm")[0] == "calm"  # a synchronous call needs no store
    eventually(lambda: post(okiba, notification("after/away.txt")).status == 200, 30)
    eventually(lambda: [key for key, _ in seen(tell) if key == "after/away.txt"], 30)


def test_a_put_while_the_gateway_is_away_is_handled_when_it_is_back(okiba, tell):
    with okiba.stopped("gateway"):
        tell.put_object(Bucket="inbox", Key="gateway/away.txt", Body=b"x")
        time.sleep(1)
    eventually(lambda: [key for key, _ in seen(tell) if key == "gateway/away.txt"], 30)
