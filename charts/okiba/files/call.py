"""What `helm test` runs: deploys a function, calls it, and deletes it again, by requests signed as any user's are."""

import io
import json
import sys
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

NAME = "okiba-helm-test"
CODE = "def handler(event, context):\n    return {'doubled': 2 * event['number']}\n"


def package() -> bytes:
    """The function's zip."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("app.py", CODE)
    return zipped.getvalue()


def main() -> None:
    """Returns if the function answered as it should."""
    client = boto3.client("lambda", config=Config(read_timeout=60, retries={"max_attempts": 2}))
    try:
        client.delete_function(FunctionName=NAME)  # an earlier test's, cut short
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
    client.create_function(
        FunctionName=NAME,
        Runtime=sys.argv[1],
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/okiba",
        Code={"ZipFile": package()},
    )
    try:
        client.get_waiter("function_active_v2").wait(FunctionName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        answer = client.invoke(FunctionName=NAME, Payload=json.dumps({"number": 21}))
        seen = json.load(answer["Payload"])
    finally:
        client.delete_function(FunctionName=NAME)
    if seen != {"doubled": 42}:
        sys.exit(f"the function answered {seen!r}, expected {{'doubled': 42}}")
    sys.stdout.write(f"{NAME} answered {seen!r}\n")


if __name__ == "__main__":
    main()
