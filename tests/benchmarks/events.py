"""Bucket events and asynchronous calls: how soon, how many, and whether each had exactly one effect."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.benchmarks.load import closed_loop, post, quantile
from tests.benchmarks.report import Row
from tests.installation import Installation, eventually, installation

BODY = os.urandom(200_000)
SAMPLES = 200
PUTS = 5_000
CLIENTS = 8
PAUSE_S = 30
ASYNC_S = 5.0

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  In: {Type: 'AWS::S3::Bucket', Properties: {BucketName: bench-in}}
  Out: {Type: 'AWS::S3::Bucket', Properties: {BucketName: bench-out}}
  Effect:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: effect
      Runtime: python3.11
      Handler: app.handler
      CodeUri: src/
      Timeout: 30
      Policies: [{S3CrudPolicy: {BucketName: bench-out}}]
      Events:
        Put: {Type: S3, Properties: {Bucket: !Ref In, Events: 's3:ObjectCreated:*'}}
"""
HANDLER = """
import os, time
from urllib.parse import unquote_plus
import boto3
s3 = boto3.client("s3")
def handler(event, context):
    began = time.time()
    for record in event["Records"]:
        key = unquote_plus(record["s3"]["object"]["key"])
        s3.put_object(Bucket="bench-out", Key=f"{key}/{context.aws_request_id}-{time.time_ns()}", Body=repr(began))
    return began
"""
NOTHING = "def handler(event, context):\n    return None\n"


def run() -> list[Row]:
    """The figures."""
    with installation() as here:
        deploy_effect(here)
        return [*_put_latency(here), *_exactly_once(here), *_asynchronous(here)]


def deploy_effect(here: Installation) -> None:
    """Deploys the handler that leaves one object per execution."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "src")
        source.mkdir()
        source.joinpath("app.py").write_text(HANDLER)
        Path(folder, "template.yaml").write_text(TEMPLATE)
        here.deploy(Path(folder))


# --- latency -------------------------------------------------------------------------------------------------------


def _put_latency(here: Installation) -> list[Row]:
    s3 = here.client("s3")
    s3.create_bucket(Bucket="bench-plain")
    for number in range(20):
        s3.put_object(Bucket="bench-in", Key=f"warm/{number}", Body=BODY)
    quiet, told, returned = [], [], {}
    for number in range(SAMPLES):
        quiet.append(_put_ms(s3, "bench-plain", f"{number}"))
        told.append(_put_ms(s3, "bench-in", f"latency/{number}"))
        returned[f"latency/{number}"] = time.time()
    waits = [max(0.0, began - returned[key]) * 1000 for key, began in _beginnings(here, "latency/", SAMPLES).items()]
    paused = {part: _puts_while_paused(here, part) for part in ("gateway", "valkey")}
    median, p99 = quantile(quiet, 0.5), quantile(quiet, 0.99)
    return [
        Row("PUT returned → handler running, warm: p50 ms", quantile(waits, 0.5), "<= 10"),
        Row("PUT returned → handler running, warm: p99 ms", quantile(waits, 0.99), "<= 100"),
        Row("PUT of 200 kB: median with notifications / without", quantile(told, 0.5) / median, "<= 1.2"),
        *(
            Row(
                f"PUT of 200 kB, {part} stopped for {PAUSE_S} s: p99 / p99 without notifications",
                ratio,
                "<= 2",
            )
            for part, ratio in paused.items()
        ),
        Row("PUT of 200 kB without notifications: median ms", median),
        Row("PUT of 200 kB without notifications: p99 ms", p99),
    ]


def _put_ms(s3, bucket: str, key: str) -> float:
    start = time.perf_counter()
    s3.put_object(Bucket=bucket, Key=key, Body=BODY)
    return (time.perf_counter() - start) * 1000


def _beginnings(here: Installation, prefix: str, count: int) -> dict[str, float]:
    """When the handler began with each key, by its own clock."""
    s3 = here.client("s3")

    def effects():
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket="bench-out", Prefix=prefix)
        found = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return found if len(found) >= count else None

    names = eventually(effects, 60)
    read = {name: float(s3.get_object(Bucket="bench-out", Key=name)["Body"].read()) for name in names}
    return {name.rpartition("/")[0]: began for name, began in read.items()}


def _puts_while_paused(here: Installation, part: str) -> float:
    """How much slower a PUT is at its 99th percentile while a component is stopped; it goes on whatever happens.

    Beside PUTs into a bucket without notifications in the same 30 s: disks have slow moments of their own.
    """
    s3, told, quiet = here.client("s3"), [], []
    pid = here.kill(part, signal.SIGSTOP)
    try:
        until = time.monotonic() + PAUSE_S
        while time.monotonic() < until:
            told.append(_put_ms(s3, "bench-in", f"paused/{part}/{len(told)}"))
            quiet.append(_put_ms(s3, "bench-plain", f"paused/{part}/{len(quiet)}"))
            time.sleep(0.05)
    finally:
        os.kill(pid, signal.SIGCONT)
    return quantile(told, 0.99) / quantile(quiet, 0.99)


# --- exactly one effect ------------------------------------------------------------------------------------------


def _exactly_once(here: Installation) -> list[Row]:
    keys = [f"once/{number:05d}.bin" for number in range(PUTS)]
    start = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        local = threading.local()

        def put(key: str) -> None:
            if not hasattr(local, "s3"):
                local.s3 = here.client("s3")
            local.s3.put_object(Bucket="bench-in", Key=key, Body=b"x")

        list(pool.map(put, keys))
    put_s = time.monotonic() - start
    eventually(lambda: here.metric("okiba_queue_depth") == 0 and check(here, keys)["lost"] == [], 120, 1.0)
    drained_s = time.monotonic() - start
    eventually(lambda: nothing_pending(here, "effect"), 120, 0.5)
    honest = check(here, keys)
    seeded = _seeded(here, keys)
    return [
        Row(f"{PUTS} PUTs by {CLIENTS} clients: lost effects", len(honest["lost"]), "<= 0"),
        Row(f"{PUTS} PUTs by {CLIENTS} clients: effects that happened twice", len(honest["duplicated"]), "<= 0"),
        Row("the checker finds one seeded duplicate and one seeded loss (2 = both)", seeded, ">= 2"),
        Row(f"{PUTS} PUTs by {CLIENTS} clients, PUTs/s", PUTS / put_s),
        Row(f"{PUTS} PUTs by {CLIENTS} clients, effects/s from first PUT to last effect", PUTS / drained_s),
    ]


def nothing_pending(here: Installation, function: str) -> bool:
    """Whether all that anybody told Okiba of, or has yet to tell, has its end: a second effect would have happened."""
    if any(path.is_file() for path in (here.state / "queue").rglob("*")):  # MinIO's queued lane
        return False
    with redis.Redis(unix_socket_path=f"{here.document['sockets']}/valkey") as store:
        # In this order, which is an event's. An entry leaves the queue with its work's end, and not with a lease.
        return not store.xlen("okiba:ingest") and not store.xlen(f"okiba:{{default/{function}}}:queue")


def check(here: Installation, keys: list[str]) -> dict[str, list[str]]:
    """The checker's verdict on the keys, from its own process."""
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as expected:
        expected.write("\n".join(keys))
        expected.flush()
        ran = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.checker", "bench-out", expected.name],
            env={**os.environ, **here.variables},
            capture_output=True,
            check=True,
        )
    return json.loads(ran.stdout)


def _seeded(here: Installation, keys: list[str]) -> int:
    """Plants a duplicate and a loss, and counts how many of the two the checker tells."""
    s3 = here.client("s3")
    s3.put_object(Bucket="bench-out", Key=f"{keys[0]}/seeded-duplicate", Body=b"0")
    victim = s3.list_objects_v2(Bucket="bench-out", Prefix=f"{keys[1]}/")["Contents"][0]["Key"]
    s3.delete_object(Bucket="bench-out", Key=victim)
    told = check(here, keys)
    return (told["duplicated"] == [keys[0]]) + (told["lost"] == [keys[1]])


# --- asynchronous calls ------------------------------------------------------------------------------------------


def _asynchronous(here: Installation) -> list[Row]:
    here.deploy_inline("nothing", NOTHING)
    accepted = _accepted_alone(here)
    drained = _drained_alone(here)
    both = _both(here)
    return [
        Row("asynchronous Invoke, accepted alone: events/s", accepted, ">= 2000"),
        Row("asynchronous Invoke, drained alone: events/s", drained, ">= 1500"),
        Row("asynchronous Invoke, accepted and drained at once: accepted/s", both[0]),
        Row("asynchronous Invoke, accepted and drained at once: ended/s", both[1]),
    ]


def _event_request(here: Installation, name: str) -> bytes:
    path = f"/2015-03-31/functions/{name}/invocations"
    headers = {"X-Amz-Invocation-Type": "Event"}
    request = AWSRequest("POST", f"http://{here.gateway}{path}", data=b'{"n": 1}', headers=headers)
    keys = Credentials(here.variables["AWS_ACCESS_KEY_ID"], here.variables["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, "lambda", here.variables["AWS_DEFAULT_REGION"]).add_auth(request)
    return post(path, b'{"n": 1}', dict(request.headers.items()), host=here.gateway)


def _accepted_alone(here: Installation) -> float:
    """Events accepted a second while nothing drains: the one slot that the function may have sleeps."""
    here.deploy_inline(
        "sleeper", "import time\n\ndef handler(event, context):\n    time.sleep(20)\n", Timeout=60, concurrency=1
    )
    load = closed_loop(here.gateway, [_event_request(here, "sleeper")], 32, ASYNC_S)
    if load.errors:
        raise AssertionError(f"{load.errors} of {load.requests} were not accepted")
    here.client("lambda").delete_function(FunctionName="sleeper")
    return load.rate


def _drained_alone(here: Installation) -> float:
    """Events that end a second while nothing is accepted.

    The backlog is made while its function may have one slot and that is asleep; then it may have all.
    """
    lambdas = here.client("lambda")
    code = "import time\n\ndef handler(event, context):\n    time.sleep(event.get('sleep', 0))\n"
    here.deploy_inline("backlog", code, Timeout=60, concurrency=1)
    lambdas.invoke(FunctionName="backlog", InvocationType="Event", Payload=b'{"sleep": 10}')
    load = closed_loop(here.gateway, [_event_request(here, "backlog")], 32, ASYNC_S)
    lambdas.delete_function_concurrency(FunctionName="backlog")
    eventually(lambda: _ended(here) > 0, 30, 0.01)  # the sleeper is awake
    before, start = _ended(here), time.monotonic()
    eventually(lambda: here.metric("okiba_queue_depth") == 0, 120, 0.05)
    rate = (_ended(here) - before) / (time.monotonic() - start)
    if load.errors or rate * 120 < load.requests:
        raise AssertionError(f"{load.errors} errors; {rate:.0f}/s of {load.requests}")
    lambdas.delete_function(FunctionName="backlog")
    return rate


def _ended(here: Installation) -> float:
    """Asynchronous attempts that have ended."""
    return here.metric("okiba_invocations_total")


def _both(here: Installation) -> tuple[float, float]:
    before, start = _ended(here), time.monotonic()
    load = closed_loop(here.gateway, [_event_request(here, "nothing")], 32, ASYNC_S)
    eventually(lambda: here.metric("okiba_queue_depth") == 0, 120, 0.2)
    return load.rate, (_ended(here) - before) / (time.monotonic() - start)
