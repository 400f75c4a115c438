"""Asynchronous calls with up to a megabyte of event: kept in the object store meanwhile, refused while that is away."""

import hashlib
import json
import time

import pytest
from botocore.exceptions import ClientError

from tests.installation import eventually

CODE = """
import hashlib, json
def handler(event, context):
    print("digest", hashlib.sha256(event["text"].encode()).hexdigest())
    if event.get("fails"):
        raise ValueError("no")
"""
TEXT = "ü" * 250_000


@pytest.fixture(scope="module")
def digest(okiba):
    okiba.deploy_inline("digest", CODE)
    return "digest"


def event(**more):
    return json.dumps({"text": TEXT, **more}, ensure_ascii=False).encode()


def logged(okiba, name):
    return okiba.okiba("logs", name).stdout


def test_the_handler_sees_the_whole_event(okiba, digest):
    answer = okiba.client("lambda").invoke(FunctionName=digest, InvocationType="Event", Payload=event())
    assert answer["StatusCode"] == 202
    eventually(lambda: hashlib.sha256(TEXT.encode()).hexdigest() in logged(okiba, digest), 30)


def test_a_dead_letter_shows_its_event_byte_for_byte(okiba, digest):
    okiba.client("lambda").invoke(FunctionName=digest, InvocationType="Event", Payload=event(fails=True))
    letters = eventually(lambda: json.loads(okiba.okiba("dlq", "list", digest, "--json").stdout), 60)
    assert letters[0]["event_bytes"] == len(event(fails=True))
    shown = json.loads(okiba.okiba("dlq", "show", digest, letters[0]["id"], "--json").stdout)
    assert shown["event"].encode() == event(fails=True)


def test_while_the_object_store_hangs_the_caller_is_told_to_come_again(okiba, digest):
    lambdas = okiba.client("lambda")
    with okiba.stopped("minio"):
        begun = time.monotonic()
        with pytest.raises(ClientError) as refused:
            lambdas.invoke(FunctionName=digest, InvocationType="Event", Payload=event())
        answer = refused.value.response["ResponseMetadata"]
        assert (answer["HTTPStatusCode"], answer["HTTPHeaders"]["retry-after"]) == (503, "1")
        assert time.monotonic() - begun < 9
        small = lambdas.invoke(FunctionName=digest, InvocationType="Event", Payload=b'{"text": ""}')
        assert small["StatusCode"] == 202
