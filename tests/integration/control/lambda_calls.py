"""What the tests of Lambda's operations share: packages, a creation, a refusal."""

import base64
import hashlib
import re
import time
import uuid

import boto3
from botocore.exceptions import ClientError

from tests.unit.control.archives import lawful

ZIP = lawful({"app.py": b"def handler(event, context): return event\n"})
OTHER_ZIP = lawful({"app.py": b"def handler(event, context): return 2\n"})
ROLE = "arn:aws:iam::000000000000:role/any"


def create(client, name, **changes):
    wanted = {"Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": ZIP}}
    return client.create_function(FunctionName=name, **{**wanted, **changes})


def sha256(content):
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


class refused:  # noqa: N801 - reads as `with refused(...)`
    """A context in which the call must be refused so."""

    def __init__(self, code, status, message=""):
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


def unless_refused(code, call, **parameters):
    """The answer, or None if the call was refused with this code; any other refusal is an error."""
    try:
        return call(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] != code:
            raise
        return None


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def s3_client(control):
    settings = control.settings
    client = boto3.client(
        "s3", "us-east-1", endpoint_url=settings.s3_endpoint, aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key,
    )  # fmt: skip
    control.clients.callback(client.close)
    return client
