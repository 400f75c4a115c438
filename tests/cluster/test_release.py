"""The chart's own promises over a release's life: an upgrade that nobody notices, an end that leaves nothing held."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests import images
from tests.cluster.access import Cluster
from tests.cluster.making.images import load
from tests.deadline import until
from tests.installation import metric_in
from tests.release import Release, release

pytestmark = pytest.mark.timeout(600)

HELLO = "def handler(event, context):\n    return 'hello'\n"
CALLERS = 4
VALUES = {"functions": {"keepNamespace": True}, "slots": {"pythons": ["3.11", "3.13"]}}
VERSION = "import sys\ndef handler(event, context):\n    import boto3\n    return sys.version_info[:2]\n"


@pytest.fixture(scope="module")
def okiba(cluster: Cluster) -> Iterator[Release]:
    if cluster.own:
        load([images.slot("3.13").archive], lambda line: print(line, flush=True))
    with release(cluster, VALUES) as here:
        here.deploy_inline("hello", HELLO)
        yield here


def test_the_leading_controller_shows_its_fleet(okiba: Release) -> None:
    def pages() -> list[str]:
        return [okiba.metrics_of(pod) for pod in okiba.pods("controller")]

    assert okiba.invoke("hello")[0] == "hello"
    until(lambda: sum(metric_in(page, "okiba_controller_leading") for page in pages()) == 1, "one leads", 60)
    (leader,) = [page for page in pages() if metric_in(page, "okiba_controller_leading")]
    assert metric_in(leader, "okiba_fleet_slots", state="warm") >= 1
    assert metric_in(leader, "okiba_fleet_slots", state="taken") >= 1
    assert metric_in(leader, "okiba_fleet_trouble") == 0


def test_a_python_without_a_slot_image_is_refused_with_those_that_have_one(okiba: Release) -> None:
    with pytest.raises(ClientError, match=r"python3\.12 is not installed here; installed: python3\.11, python3\.13"):
        okiba.deploy_inline("newer", HELLO, runtime="python3.12")


def test_a_function_runs_on_the_python_that_it_asks_for(okiba: Release) -> None:
    okiba.deploy_inline("newest", VERSION, runtime="python3.13")

    def answers() -> bool:
        # Nothing is kept warm of a Python that no call was for; on a busy machine a pod takes longer than a call waits.
        with contextlib.suppress(ClientError):
            return okiba.invoke("newest")[0] == [3, 13]
        return False

    until(answers, "a slot of that Python", 90)


def test_an_upgrade_under_calls_fails_none(okiba: Release) -> None:
    before = set(okiba.pods("gateway"))
    with Callers(okiba) as callers:
        until(lambda: callers.answered > 50, "calls are answered", 60)
        okiba.upgrade({**VALUES, "gateway": {"podAnnotations": {"example.org/turn": "2"}}})
        seen = callers.answered
        until(lambda: callers.answered > seen + 50, "calls go on", 60)
    until(lambda: not before & set(okiba.pods("gateway")), "the former gateways are gone", 120)
    print(f"{callers.answered} calls, slowest {callers.slowest_s * 1000:.0f} ms")
    assert callers.failures == []


def test_functions_that_stay_can_be_deleted_without_okiba(okiba: Release) -> None:
    spec = {"handler": "index.handler", "code": {"inline": HELLO}}
    declared = {"apiVersion": "okiba.dev/v1alpha1", "kind": "Function", "metadata": {"name": "stays"}, "spec": spec}
    okiba.cluster.kubectl("apply", "-n", okiba.functions, "--filename=-", stdin=json.dumps(declared))

    def held() -> bool:
        metadata = okiba.cluster.get("function", "stays", "-n", okiba.functions)["metadata"]
        return bool(metadata.get("finalizers"))

    until(held, "the controller holds it", 60)
    okiba.helm("uninstall", "okiba", "--wait", "--timeout", "3m")

    assert not held()
    okiba.cluster.kubectl("delete", "namespace", okiba.functions, "--timeout=60s", seconds=90)


class Callers:
    """Threads that call `hello` one call after the other while the block lasts, each on a connection that is kept."""

    def __init__(self, okiba: Release) -> None:
        self._okiba = okiba
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        self.answered = 0
        self.slowest_s = 0.0
        self.failures: list[str] = []

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with self._okiba.passing_client("lambda") as lambdas:
            while not self._ending.is_set():
                begun = time.monotonic()
                try:
                    answer = lambdas.invoke(FunctionName="hello", Payload=b"null")
                    body = answer["Payload"].read()
                    if body != b'"hello"':
                        self.failures.append(repr(body))
                except (BotoCoreError, ClientError) as error:
                    self.failures.append(repr(error))
                self.answered += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
