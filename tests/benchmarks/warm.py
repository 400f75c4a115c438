"""Warm synchronous calls, through the gateway to a worker and back, beside an empty FastAPI route in the same run."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.benchmarks.load import Load, closed_loop, post, quantile
from tests.benchmarks.report import Row
from tests.installation import Installation, installation

HANDLER = "def handler(event, context):\n    return None\n"
PATH = "/2015-03-31/functions/warm/invocations"
SECONDS = 4.0
ROUNDS = 3


@contextlib.contextmanager
def served(kind: str, port: int) -> Iterator[str]:
    """A baseline application on a port."""
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.baselines", kind, str(port)])
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/empty", b"{}"), timeout=1)
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def signed(here: Installation, path: str = PATH) -> bytes:
    """A signed call of a function, good for 15 minutes."""
    variables = here.variables
    request = AWSRequest("POST", f"http://{here.gateway}{path}", data=b"{}")
    keys = Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, "lambda", variables["AWS_DEFAULT_REGION"]).add_auth(request)
    return post(path, b"{}", dict(request.headers.items()), host=here.gateway)


def _median(loads: list[Load], figure: str) -> float:
    return quantile([getattr(load, figure) for load in loads], 0.5)


def _measured(targets: dict[str, tuple[str, bytes]], clients: int) -> dict[str, list[Load]]:
    """Each target in turn, several rounds, so that a machine whose speed drifts drifts for all."""
    seen: dict[str, list[Load]] = {name: [] for name in targets}
    for _ in range(ROUNDS):
        for name, (address, request) in targets.items():
            load = closed_loop(address, [request], clients, SECONDS)
            if load.errors:
                raise AssertionError(f"{name}: {load.errors} of {load.requests} requests failed")
            seen[name].append(load)
    return seen


def run() -> list[Row]:
    """The figures."""
    unsigned = {"OKIBA_REQUIRE_SIGNATURES": "false"}
    with (
        installation() as here,
        installation(settings=unsigned) as open_here,
        served("fastapi", 18180) as fastapi,
        served("echo", 18181) as echo,
    ):
        for each in (here, open_here):
            each.deploy_inline("warm", HANDLER)
            each.invoke("warm")
        targets = {
            "fastapi": (fastapi, post("/empty", b"{}")),
            "echo": (echo, post("/empty", b"{}")),
            "okiba": (open_here.gateway, post(PATH, b"{}")),
            "signed": (here.gateway, signed(here)),
        }
        _measured({"okiba": targets["okiba"], "signed": targets["signed"]}, 32)  # slots for 32 callers are made here
        many, one = _measured(targets, 32), _measured(targets, 1)
    rate = {name: _median(loads, "rate") for name, loads in many.items()}
    p50 = {name: _median(loads, "p50") for name, loads in one.items()}
    return [
        Row("warm call, 32 clients: throughput / empty FastAPI route", rate["okiba"] / rate["fastapi"], ">= 1.0"),
        Row(
            "warm call, 32 clients, signed: throughput / empty FastAPI route",
            rate["signed"] / rate["fastapi"],
            ">= 0.7",
        ),
        Row("warm call, 1 client: p50 / empty FastAPI route", p50["okiba"] / p50["fastapi"], "<= 1.2"),
        Row("warm call, 32 clients, calls/s", rate["okiba"]),
        Row("warm call, 32 clients, signed, calls/s", rate["signed"]),
        Row("warm call, 32 clients, p99 ms", _median(many["okiba"], "p99")),
        Row("warm call, 1 client, p50 µs", p50["okiba"] * 1000),
        Row("warm call, 1 client, signed, p50 µs", p50["signed"] * 1000),
        Row("empty FastAPI route, 32 clients, requests/s", rate["fastapi"]),
        Row("empty FastAPI route, 1 client, p50 µs", p50["fastapi"] * 1000),
        Row("bare ASGI echo, 32 clients, requests/s", rate["echo"]),
    ]
