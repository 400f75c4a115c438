"""A sweep of a bucket: of which nothing was announced, and again when all is known."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minio import Minio

from tests.benchmarks.idle import pss_kb
from tests.benchmarks.report import Row
from tests.installation import Installation, eventually, installation

OBJECTS = int(os.environ.get("OKIBA_BENCH_SWEEP", "20000"))
CLIENTS = 8
SETTLED_S = 35
"""After its own start a controller sweeps three times."""
BUCKET = "bench-sweep"
TEMPLATE = f"""
Transform: AWS::Serverless-2016-10-31
Resources:
  Bucket: {{Type: 'AWS::S3::Bucket', Properties: {{BucketName: {BUCKET}}}}}
  Nothing:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: nothing
      Runtime: python3.11
      Handler: app.handler
      CodeUri: src/
      Events: {{Put: {{Type: S3, Properties: {{Bucket: !Ref Bucket, Events: ['s3:ObjectCreated:*']}}}}}}
"""
SWEPT_A_SECOND = 1_000_000 / 180
"""A million objects in 180 s."""


def run() -> list[Row]:
    """The figures."""
    with installation() as here:
        _deploy(here)
        time.sleep(SETTLED_S)
        here.okiba("pause", "nothing")  # what is found stays in its queue: the sweep alone is measured
        _fill(here)
        before_kb, peak = pss_kb(here.pid("controller")), _Peak(here)
        found, finding_s = _swept(here)
        known, knowing_s = _swept(here)
        grown_mb = (peak.stop() - before_kb) / 1024
        assert (found, known) == (OBJECTS, 0), (found, known)
        listing_s = _listed(here)
    return [
        Row(f"sweep of {OBJECTS} objects, all of them unannounced: objects/s", OBJECTS / finding_s),
        Row(
            f"sweep of {OBJECTS} objects, all of them known: objects/s", OBJECTS / knowing_s, f">= {SWEPT_A_SECOND:.0f}"
        ),
        Row("the same / listing them with the SDK and nothing more", knowing_s / listing_s),
        Row("controller's growth during both, PSS MB", grown_mb, "<= 64"),
    ]


def _deploy(here: Installation) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        source.mkdir()
        (source / "app.py").write_text("def handler(event, context):\n    return None\n")
        (Path(folder) / "template.yaml").write_text(TEMPLATE)
        here.deploy(Path(folder))


def _fill(here: Installation) -> None:
    """Puts all objects while the bucket announces nothing."""
    s3 = here.client("s3")
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={})
    local = threading.local()

    def put(number: int) -> None:
        if not hasattr(local, "s3"):
            local.s3 = here.client("s3")
        local.s3.put_object(Bucket=BUCKET, Key=f"{number % 100:02d}/{number:07d}", Body=b"x")

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(put, range(OBJECTS)))


def _swept(here: Installation) -> tuple[int, float]:
    """How many events a sweep found, and how long it took by its own clock (s), once they are in the queue."""
    (told,) = json.loads(here.okiba("sweep", BUCKET, "--json", timeout=900).stdout)
    eventually(lambda: here.metric("okiba_queue_depth", function="nothing") == OBJECTS, 300, 0.5)
    return told["found"], (told["ended_ms"] - told["began_ms"]) / 1000


def _listed(here: Installation) -> float:
    keys = here.variables
    address = keys["AWS_ENDPOINT_URL_S3"].removeprefix("http://")
    access, secret = keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]
    client = Minio(address, access_key=access, secret_key=secret, secure=False, region="us-east-1")
    began_s = time.monotonic()
    assert sum(1 for _ in client.list_objects(BUCKET, recursive=True)) == OBJECTS
    return time.monotonic() - began_s


class _Peak:
    """The most memory that the controller has until `stop`."""

    def __init__(self, here: Installation) -> None:
        self._pid, self._seen, self._over = here.pid("controller"), 0, threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self._seen = max(self._seen, pss_kb(self._pid))

    def stop(self) -> int:
        self._over.set()
        self._watcher.join()
        return self._seen
