"""The main job: nothing runs, a photo arrives, thumbnails appear, nothing runs again."""

import io
import os
from contextlib import closing
from pathlib import Path

import pytest
import skimage
from PIL import Image

from tests.installation import eventually

EXAMPLE = Path(__file__).parents[2] / "examples/01-thumbnails"
PHOTO = Path(skimage.__file__).parent / "data" / "astronaut.png"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def thumbnails(okiba):
    okiba.deploy(EXAMPLE)
    return okiba.client("s3")


def stored(s3, prefix):
    found = s3.list_objects_v2(Bucket="thumbnails", Prefix=prefix).get("Contents", [])
    return {item["Key"]: item["Size"] for item in found}


def test_a_photo_becomes_three_thumbnails_and_then_nothing_runs_again(okiba, thumbnails):
    s3 = thumbnails
    eventually(lambda: okiba.metric("okiba_slots") == 0, 60)
    s3.put_object(Bucket="photos", Key="holiday/eileen collins.png", Body=PHOTO.read_bytes())
    found = eventually(lambda: (names := stored(s3, "holiday/eileen collins.png/")) and len(names) == 3 and names, 60)
    for key in found:
        image = Image.open(io.BytesIO(s3.get_object(Bucket="thumbnails", Key=key)["Body"].read()))
        assert image.format == "JPEG"
        assert max(image.size) <= 512
    assert len(set(found.values())) == 3
    eventually(lambda: okiba.metric("okiba_slots") == 0, 60)


def _bomb():
    """A PNG that says it has 2.5 billion pixels, in a few kilobytes of real data."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100_000)) + chunk(b"IEND", b"")


BROKEN = {
    "truncated.png": PHOTO.read_bytes()[:20_000],
    "mistyped.jpg": b"%PDF-1.7 this is no picture",
    "empty.png": b"",
    "bomb.png": _bomb(),
}


def test_broken_images_are_dead_lettered_with_a_clear_error_and_the_rest_goes_on(okiba, thumbnails):
    s3 = thumbnails
    for name, content in BROKEN.items():
        s3.put_object(Bucket="photos", Key=f"broken/{name}", Body=content)
    s3.put_object(Bucket="photos", Key="broken/good.png", Body=PHOTO.read_bytes())
    eventually(lambda: len(stored(s3, "broken/good.png/")) == 3, 60)
    eventually(lambda: okiba.okiba("dlq", "list", "thumbnails", "--json").stdout.count('"reason"') >= len(BROKEN), 60)
    text = okiba.okiba("dlq", "list", "thumbnails").stdout
    assert text.count("RetriesExhausted") == len(BROKEN)
    assert list(stored(s3, "broken/")) == sorted(f"broken/good.png/{size}.jpg" for size in ("mobile", "tablet", "web"))


def test_deploying_again_changes_nothing(okiba, thumbnails):
    before = okiba.client("lambda").get_function(FunctionName="thumbnails")["Configuration"]
    text = okiba.okiba("deploy", str(EXAMPLE)).stdout
    after = okiba.client("lambda").get_function(FunctionName="thumbnails")["Configuration"]
    assert "unchanged" in text
    assert after["RevisionId"] == before["RevisionId"]


def test_logs_are_there_after_the_slot_is_gone(okiba, thumbnails):
    thumbnails.put_object(Bucket="photos", Key="logged.png", Body=PHOTO.read_bytes())
    eventually(lambda: len(stored(thumbnails, "logged.png/")) == 3, 60)
    eventually(lambda: okiba.metric("okiba_slots") == 0, 60)
    text = okiba.okiba("logs", "thumbnails").stdout
    assert "START RequestId:" in text
    assert "REPORT RequestId:" in text


def test_the_function_holds_keys_of_its_own_that_reach_its_buckets_and_no_other(okiba, thumbnails):
    import boto3
    from botocore.exceptions import ClientError

    okiba.client("s3").create_bucket(Bucket="private")
    okiba.deploy_inline("whoami", "import os\n\ndef handler(event, context):\n    return dict(os.environ)\n")
    variables, _ = okiba.invoke("whoami")
    its_client = boto3.client(
        "s3",
        endpoint_url=okiba.variables["AWS_ENDPOINT_URL_S3"],  # the function may know it by another name
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_REGION"],
    )
    with closing(its_client) as mine, pytest.raises(ClientError) as refused:
        mine.list_objects_v2(Bucket="private")
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    assert os.environ.get("AWS_ACCESS_KEY_ID") != variables["AWS_ACCESS_KEY_ID"]
