"""From zero: functions that have never run, with the pool full and without pause; and a cold thumbnail."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from tests.benchmarks.load import quantile
from tests.benchmarks.report import Row
from tests.benchmarks.warm import signed
from tests.installation import Installation, eventually, installation

HANDLER = "def handler(event, context):\n    return 'hello'\n"
PACED = int(os.environ.get("OKIBA_BENCH_COLD", "300"))
UNPACED = PACED // 6
THUMBNAIL_RUNS = 11
SETTLED_S = 0.1
"""After the pool is full again: what made the last slot has come to rest."""
EXAMPLE = Path("examples/01-thumbnails")


def run() -> list[Row]:
    """The figures."""
    return [*_plain(), *_thumbnails()]


def _plain() -> list[Row]:
    with installation() as here:
        names = [f"cold{number}" for number in range(PACED + UNPACED)]
        for name in names:
            here.deploy_inline(name, HANDLER)
        paced, unpaced = [], []
        with connected(here.gateway) as call:
            for name in names[:PACED]:
                _wait_for_pool(here)
                time.sleep(SETTLED_S)
                paced.append(call(signed(here, f"/2015-03-31/functions/{name}/invocations")))
            _wait_for_pool(here)
            for name in names[PACED:]:
                unpaced.append(call(signed(here, f"/2015-03-31/functions/{name}/invocations")))
    return [
        Row(f"cold call, {PACED} functions never run, paced: p50 ms", quantile(paced, 0.5), "<= 15"),
        Row(f"cold call, {PACED} functions never run, paced: p95 ms", quantile(paced, 0.95), "<= 40"),
        Row(f"cold call, {UNPACED} functions never run, unpaced: p50 ms", quantile(unpaced, 0.5)),
        Row(f"cold call, {UNPACED} functions never run, unpaced: p95 ms", quantile(unpaced, 0.95)),
    ]


def _wait_for_pool(here: Installation) -> None:
    eventually(lambda: here.metric("okiba_warm_slots") >= 4, 30, 0.02)


@contextlib.contextmanager
def connected(address: str) -> Iterator[Callable[[bytes], float]]:
    """Calls over one kept connection, with requests signed before: what a client's library takes is not ours."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as answers:

        def call(request: bytes) -> float:
            start = time.perf_counter()
            connection.sendall(request)
            status = answers.readline().split()[1]
            length = 0
            while (line := answers.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = answers.read(length)
            taken = (time.perf_counter() - start) * 1000
            if (status, body) != (b"200", b'"hello"'):
                raise AssertionError((status, body))
            return taken

        yield call


def _timed(client, name: str, event: object = None) -> float:
    start = time.perf_counter()
    response = client.invoke(FunctionName=name, Payload=json.dumps(event))
    taken = (time.perf_counter() - start) * 1000
    if "FunctionError" in response:
        raise AssertionError(response["Payload"].read())
    return taken


def enlarged_photo() -> bytes:
    """The photograph of the example at 12 megapixels, as JPEG."""
    import skimage

    photo = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB").resize((4000, 3000))
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _thumbnails() -> list[Row]:
    rows = []
    for preloaded in (True, False):
        with installation(settings={} if preloaded else {"OKIBA_WARM_LAYERS": "0"}) as here:
            difference = _cold_minus_warm(here)
        how = "with its layer preloaded" if preloaded else "without preloading"
        goal = "<= 60" if preloaded else ""
        rows.append(Row(f"thumbnails of 12 megapixels, {how}: cold minus warm, median ms", difference, goal))
    return rows


def _cold_minus_warm(here: Installation) -> float:
    """Difference of the medians, in ms."""
    here.deploy(EXAMPLE)
    client = here.client("lambda")
    here.client("s3").put_object(Bucket="photos", Key="not-bound/large.jpg", Body=enlarged_photo())
    event = {"Records": [{"s3": {"bucket": {"name": "photos"}, "object": {"key": "not-bound/large.jpg"}}}]}
    name = next(f["FunctionName"] for f in client.list_functions()["Functions"])
    _timed(client, name, event)  # teaches the layer what to preload
    cold, warm = [], []
    for number in range(THUMBNAIL_RUNS):
        client.update_function_configuration(FunctionName=name, Description=str(number))  # a new revision: cold again
        eventually(
            lambda: client.get_function(FunctionName=name)["Configuration"]["LastUpdateStatus"] == "Successful", 30
        )
        time.sleep(2)  # pools are refilled in the background
        cold.append(_timed(client, name, event))
        warm += [_timed(client, name, event) for _ in range(3)]
    return quantile(cold, 0.5) - quantile(warm, 0.5)
