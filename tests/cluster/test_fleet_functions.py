"""`Function` objects on a real cluster: one controller on this machine, with a real Valkey and a real MinIO."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_fleet import Site
from tests.cluster.test_fleet import site as site
from tests.deadline import until
from tests.servers import MinioServer, minio

pytestmark = pytest.mark.timeout(400)

HELLO = {"handler": "index.handler", "code": {"inline": "def handler(event, context):\n    return 'hello'\n"}}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MinioServer]:
    with minio(tmp_path) as server:
        yield server


@pytest.fixture
def followed(site: Site, store: MinioServer) -> Iterator[Site]:
    site.start_controller(
        s3_endpoint=store.endpoint, s3_access_key=store.access_key, s3_secret_key=store.secret_key, warm_slots=0
    )
    yield site
    # While the controller is there to let them go: a namespace does not end before its finalizers have.
    site.cluster.kubectl("delete", "functions", "--all", "-n", site.namespace, "--timeout=100s", seconds=120)


def apply(site: Site, name: str, spec: dict) -> None:
    site.cluster.kubectl("apply", "--filename=-", "--validate=strict", stdin=json.dumps(_object(site, name, spec)))


def _object(site: Site, name: str, spec: dict) -> dict:
    metadata = {"name": name, "namespace": site.namespace}
    return {"apiVersion": "okiba.dev/v1alpha1", "kind": "Function", "metadata": metadata, "spec": spec}


def status(site: Site, name: str) -> dict:
    return site.cluster.get("function", name, "-n", site.namespace).get("status") or {}


def ready(site: Site, name: str) -> str:
    conditions = status(site, name).get("conditions") or [{}]
    return conditions[0].get("status", "")


def test_an_object_becomes_ready_is_shown_by_kubectl_and_goes_with_all_that_is_its_own(followed: Site) -> None:
    apply(followed, "hello", HELLO)
    until(lambda: ready(followed, "hello") == "True", "it is ready", 120)
    shown = followed.cluster.kubectl("get", "functions", "-n", followed.namespace).splitlines()
    assert shown[0].split()[:3] == ["NAME", "HANDLER", "STATE"]
    assert shown[1].split()[:4] == ["hello", "index.handler", "Active", "0"]
    before = followed.cluster.get("function", "hello", "-n", followed.namespace)["metadata"]["resourceVersion"]
    apply(followed, "hello", HELLO | {"memorySize": 256})
    until(lambda: status(followed, "hello").get("observedGeneration") == 2, "the change is seen", 60)
    until(lambda: ready(followed, "hello") == "True", "it is ready again", 60)
    after = followed.cluster.get("function", "hello", "-n", followed.namespace)["metadata"]["resourceVersion"]
    assert after != before
    followed.cluster.kubectl("delete", "function", "hello", "-n", followed.namespace, "--timeout=60s")


def test_an_object_that_is_as_it_should_be_is_not_written_again_and_again(followed: Site) -> None:
    apply(followed, "hello", HELLO)
    until(lambda: ready(followed, "hello") == "True", "it is ready", 120)
    version = followed.cluster.get("function", "hello", "-n", followed.namespace)["metadata"]["resourceVersion"]
    apply(followed, "other", HELLO)
    until(lambda: ready(followed, "other") == "True", "another one is ready meanwhile", 120)
    assert followed.cluster.get("function", "hello", "-n", followed.namespace)["metadata"]["resourceVersion"] == version


def test_code_and_secrets_that_are_not_there_are_told_and_taken_once_they_are(followed: Site) -> None:
    spec = {
        "handler": "app.handler",
        "code": {"configMap": {"name": "late"}},
        "secrets": [{"variable": "PASSWORD", "name": "db", "key": "password"}],
    }
    apply(followed, "late", spec)
    until(lambda: "no ConfigMap late" in status(followed, "late").get("lastError", ""), "what lacks is told", 120)
    names = ("-n", followed.namespace)
    followed.cluster.kubectl("create", "secret", "generic", "db", "--from-literal=password=s3cret", *names)
    followed.cluster.kubectl("create", "configmap", "late", "--from-literal=app.py=def handler(e, c): pass", *names)
    apply(followed, "late", spec | {"timeout": 5})
    until(lambda: ready(followed, "late") == "True", "it is ready", 120)
    shown = json.dumps(followed.cluster.get("function", "late", *names))
    assert "s3cret" not in shown


def test_a_hundred_objects_are_applied_within_seconds_and_make_no_pod(followed: Site) -> None:
    apply(followed, "first", HELLO)
    until(lambda: ready(followed, "first") == "True", "the controller works", 120)
    documents = [_object(followed, f"idle-{number}", HELLO) for number in range(100)]
    begun = time.monotonic()
    followed.cluster.apply(*documents)
    until(lambda: _ready_count(followed) == 101, "all are ready", 180)
    print(f"100 objects: {time.monotonic() - begun:.1f} s")
    pods: list[dict] = followed.pods()
    assert len({pod["metadata"]["labels"]["okiba.dev/memory"] for pod in pods}) <= 1
    assert len(pods) <= 1


def _ready_count(site: Site) -> int:
    items = site.cluster.get("functions", "-n", site.namespace)["items"]
    return sum((item.get("status", {}).get("conditions") or [{}])[0].get("status") == "True" for item in items)
