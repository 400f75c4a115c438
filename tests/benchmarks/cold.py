"""From zero: functions that have never run, with the pool full and without pause; and a cold thumbnail."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

from PIL import Image

from tests.benchmarks.load import quantile
from tests.benchmarks.report import Row
from tests.installation import Installation, eventually, installation

HANDLER = "def handler(event, context):\n    return 'hello'\n"
PACED = int(os.environ.get("OKIBA_BENCH_COLD", "300"))
UNPACED = PACED // 6
THUMBNAIL_RUNS = 7
EXAMPLE = Path("examples/01-thumbnails")


def run() -> list[Row]:
    """The figures."""
    return [*_plain(), *_thumbnails()]


def _plain() -> list[Row]:
    with installation() as here:
        names = [f"cold{number}" for number in range(PACED + UNPACED)]
        for name in names:
            here.deploy_inline(name, HANDLER)
        client = here.client("lambda")
        client.list_functions()  # the connection of this client is not what is measured
        paced, unpaced = [], []
        for name in names[:PACED]:
            _wait_for_pool(here)
            paced.append(_timed(client, name))
        _wait_for_pool(here)
        for name in names[PACED:]:
            unpaced.append(_timed(client, name))
    return [
        Row(f"cold call, {PACED} functions never run, paced: p50 ms", quantile(paced, 0.5), "<= 15"),
        Row(f"cold call, {PACED} functions never run, paced: p95 ms", quantile(paced, 0.95), "<= 40"),
        Row(f"cold call, {UNPACED} functions never run, unpaced: p50 ms", quantile(unpaced, 0.5)),
        Row(f"cold call, {UNPACED} functions never run, unpaced: p95 ms", quantile(unpaced, 0.95)),
    ]


def _wait_for_pool(here: Installation) -> None:
    eventually(lambda: here.metric("okiba_warm_slots") >= 4, 30, 0.02)


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
            differences = _cold_minus_warm(here)
        how = "with its layer preloaded" if preloaded else "without preloading"
        goal = "<= 60" if preloaded else ""
        rows.append(
            Row(f"thumbnails of 12 megapixels, {how}: cold minus warm, median ms", quantile(differences, 0.5), goal)
        )
    return rows


def _cold_minus_warm(here: Installation) -> list[float]:
    here.deploy(EXAMPLE)
    client = here.client("lambda")
    here.client("s3").put_object(Bucket="photos", Key="not-bound/large.jpg", Body=enlarged_photo())
    event = {"Records": [{"s3": {"bucket": {"name": "photos"}, "object": {"key": "not-bound/large.jpg"}}}]}
    name = next(f["FunctionName"] for f in client.list_functions()["Functions"])
    _timed(client, name, event)  # teaches the layer what to preload
    differences = []
    for number in range(THUMBNAIL_RUNS):
        client.update_function_configuration(FunctionName=name, Description=str(number))  # a new revision: cold again
        eventually(
            lambda: client.get_function(FunctionName=name)["Configuration"]["LastUpdateStatus"] == "Successful", 30
        )
        time.sleep(2)  # pools are refilled in the background
        cold = _timed(client, name, event)
        warm = quantile([_timed(client, name, event) for _ in range(3)], 0.5)
        differences.append(cold - warm)
    return differences
