"""The fleet on a real cluster: controllers as processes on this machine, their pods in a namespace of the test's own.

Nothing of the platform runs in the cluster but slots; the chart's tests install the whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from okiba.adapters.fleet_link import FleetLink
from okiba.adapters.redis_fleet import RedisFleet
from okiba.adapters.redis_link import RedisLink
from okiba.core.slot_end import is_out_of_memory
from tests.cluster.access import Cluster
from tests.cluster.disasters import no_api_server
from tests.cluster.making.images import load
from tests.deadline import until_async
from tests.fakes.fleet import FakeListener
from tests.images import slot as slot_image
from tests.servers import free_port, valkey

pytestmark = pytest.mark.timeout(400)

KEY = "ab" * 32
KIND = "python3.11/128"
CRD = Path(__file__).parents[2] / "charts/okiba/crds/functions.yaml"
PATIENCE_S = 120.0


class Site:
    """A namespace for slots, a Valkey, and the controllers that a test starts."""

    def __init__(self, cluster: Cluster, namespace: str, redis_url: str, folder: Path) -> None:
        self.cluster, self.namespace, self.redis_url, self.folder = cluster, namespace, redis_url, folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_controller(self, **settings: object) -> subprocess.Popen[bytes]:
        """A controller on a port of its own."""
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "OKIBA_FLEET": "kubernetes",
            "OKIBA_FLEET_ADDRESS": f"tcp:127.0.0.1:{free_port()}",
            "OKIBA_FUNCTIONS_NAMESPACE": self.namespace,
            "OKIBA_POD_NAMESPACE": self.namespace,
            "OKIBA_CODE_FROM": "store",
            "OKIBA_ADMIN_ADDRESS": f"127.0.0.1:{free_port()}",
            "OKIBA_STATE_DIR": str(self.folder),
            "OKIBA_REDIS_URL": self.redis_url,
            "OKIBA_S3_ENDPOINT": "http://127.0.0.1:1",
            "OKIBA_S3_ACCESS_KEY": "nobody",
            "OKIBA_S3_SECRET_KEY": "nothing-at-all",
            "OKIBA_PLATFORM_KEY": KEY,
            "OKIBA_WARM_SLOTS": "2",
            **{f"OKIBA_{name.upper()}": str(value) for name, value in settings.items()},
        }
        with (self.folder / f"controller-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "okiba.apps.controller"], env=environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    @contextlib.asynccontextmanager
    async def gateway(self) -> AsyncIterator[tuple[FleetLink, FakeListener]]:
        """A gateway's end of the link, which finds the leader in Redis as gateways do."""
        link = await RedisLink.open(self.redis_url)
        fleet = RedisFleet(link)

        async def leader() -> tuple[str, int] | None:
            record = await fleet.read()
            return (record.address, record.epoch) if record else None

        ours, listener = FleetLink("", "gateway-0", 1, KEY, leader), FakeListener()
        task = asyncio.ensure_future(ours.run(listener))
        try:
            yield ours, listener
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await link.close()

    def pods(self) -> list[dict]:
        return self.cluster.get("pods", "--namespace", self.namespace)["items"]

    def logs(self) -> str:
        return "\n".join(path.read_text()[-4_000:] for path in sorted(self.folder.glob("controller-*.log")))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    if cluster.own:
        load([slot_image().archive], print)
    cluster.kubectl("apply", "--server-side", "--filename", str(CRD))
    sockets = Path(tempfile.mkdtemp(prefix="ok", dir="/tmp"))
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    with cluster.fresh_namespace(**restricted) as namespace, valkey(sockets) as redis:
        metadata = {"name": "okiba-slots", "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        site = Site(cluster, namespace, redis.url, tmp_path)
        try:
            yield site
        except BaseException:
            print(site.logs())
            raise
        finally:
            site.end()
    shutil.rmtree(sockets, ignore_errors=True)


async def becomes_true(condition, what: str, seconds: float = PATIENCE_S) -> None:
    async def holds() -> object:
        return await asyncio.to_thread(condition)

    await until_async(holds, what, seconds)


async def test_warm_pods_are_made_dealt_taken_and_retired(site: Site) -> None:
    site.start_controller()
    async with site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm().get(KIND) == 2, "two warm slots")
        slot = link.claim([KIND], "thumbnails", "r1")
        assert slot is not None
        link.took(replace(slot, function="thumbnails", revision="r1"), 1)
        pod = slot.id.rpartition(".")[0]
        label = "okiba.dev/function=thumbnails"
        await becomes_true(lambda: site.cluster.get("pods", "-n", site.namespace, "-l", label)["items"], "the label")
        document = site.cluster.get("pod", pod, "-n", site.namespace)
        assert document["metadata"]["ownerReferences"][0]["name"] == "okiba-slots"
        assert document["spec"]["containers"][0].get("env") in (None, [])
        await becomes_true(lambda: link.warm().get(KIND) == 2, "the pool is full again")
        link.retire(slot.id, 1)
        await becomes_true(lambda: slot.id in dict(listener.gone), "it is gone")
        await becomes_true(lambda: pod not in {each["metadata"]["name"] for each in site.pods()}, "its pod is gone")


async def test_many_callers_of_one_function_get_pods_of_eight_slots(site: Site) -> None:
    site.start_controller(warm_slots=0, idle_slot_ms=10_000)
    async with site.gateway() as (link, _):
        await becomes_true(lambda: link.connected, "a controller leads")
        link.want(KIND, 10, [10])
        await becomes_true(lambda: link.warm().get(KIND) == 16, "sixteen slots")
        assert sorted(len(pod["spec"]["containers"]) for pod in site.pods()) == [8, 8]
        link.want(KIND, 0, [])
        await becomes_true(lambda: site.pods() == [], "idle, they go")


async def test_the_second_controller_leads_when_the_first_is_killed_and_finds_every_slot(site: Site) -> None:
    first = site.start_controller()
    async with site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm().get(KIND) == 2, "two warm slots")
        site.start_controller()
        slot = link.claim([KIND], "f", "r1")
        assert slot is not None
        link.took(replace(slot, function="f", revision="r1"), 1)
        await becomes_true(lambda: link.warm().get(KIND) == 2, "the pool is full again")
        before = {pod["metadata"]["name"] for pod in site.pods()}
        first.send_signal(signal.SIGKILL)
        await becomes_true(lambda: not link.connected, "the link breaks")
        await becomes_true(lambda: link.connected and listener.synced == 2, "the second one deals slots")
        assert {(each.id, each.function) for each in link.taken("f")} == {(slot.id, "f")}
        assert {pod["metadata"]["name"] for pod in site.pods()} == before
        link.retire(slot.id, 1)
        await becomes_true(lambda: slot.id in dict(listener.gone), "it does what it is told")


async def test_a_leader_that_was_stopped_does_nothing_when_it_wakes_up(site: Site) -> None:
    first = site.start_controller()
    async with site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm().get(KIND) == 2, "two warm slots")
        site.start_controller()
        first.send_signal(signal.SIGSTOP)
        await becomes_true(lambda: listener.synced == 2, "the second one deals slots")
        first.send_signal(signal.SIGCONT)
        log = site.folder / "controller-0.log"
        await becomes_true(lambda: "term over" in log.read_text(), "the first one notices")
        slot = link.claim([KIND], "f", "r1")
        assert slot is not None
        link.took(replace(slot, function="f", revision="r1"), 1)
        await becomes_true(lambda: link.warm().get(KIND) == 2, "the second one still leads")
        assert len(site.pods()) == 3


async def test_a_controller_that_is_asked_to_end_lets_the_next_one_lead_at_once(site: Site) -> None:
    first = site.start_controller()
    async with site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm().get(KIND) == 2, "two warm slots")
        site.start_controller()
        log = site.folder / "controller-1.log"
        await becomes_true(lambda: log.exists(), "the second one starts")
        first.terminate()
        assert await asyncio.to_thread(first.wait, 10) == 0
        await becomes_true(lambda: listener.synced == 2, "the second one deals slots")


async def test_slots_survive_an_api_server_that_is_away(site: Site, own_cluster: Cluster) -> None:
    site.start_controller()
    async with site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm().get(KIND) == 2, "two warm slots")
        slot = link.claim([KIND], "f", "r1")
        assert slot is not None
        link.took(replace(slot, function="f", revision="r1"), 1)
        await becomes_true(lambda: link.warm().get(KIND) == 2, "the pool is full again")
        before = {pod["metadata"]["name"] for pod in site.pods()}
        with no_api_server():
            await becomes_true(lambda: "term over" in site.logs(), "the leader stops acting")
            assert listener.gone == []
        await becomes_true(lambda: listener.synced >= 2, "it leads again")
        assert [each.id for each in link.taken("f")] == [slot.id]
        assert {pod["metadata"]["name"] for pod in site.pods()} >= before
        assert slot.id not in dict(listener.gone)


async def test_a_slot_whose_every_process_is_killed_counts_as_out_of_memory(site: Site, own_cluster: Cluster) -> None:
    site.start_controller()
    async with site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm().get(KIND) == 2, "two warm slots")
        slot = link.claim([KIND], "f", "r1")
        assert slot is not None
        link.took(replace(slot, function="f", revision="r1"), 1)
        uid = site.cluster.get("pod", slot.id.rpartition(".")[0], "-n", site.namespace)["metadata"]["uid"]
        for pid in _processes_of(uid):
            os.kill(pid, signal.SIGKILL)
        await becomes_true(lambda: slot.id in dict(listener.gone), "it is gone")
        assert is_out_of_memory(dict(listener.gone)[slot.id])


def _processes_of(pod_uid: str) -> list[int]:
    """Processes of agents in the pod, wherever its node keeps it; not the sandbox's own."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            inside = pod_uid in (folder / "cgroup").read_text()
            if inside and "okiba_runtime" in (folder / "cmdline").read_text():
                found.append(int(folder.name))
    return found


async def test_a_taken_slot_gets_lambdas_share_of_the_processor_without_being_restarted(site: Site) -> None:
    site.start_controller(slot_cpu_floor_m=0, warm_slots=1)
    async with site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm().get(KIND) == 1, "a warm slot")
        slot = link.claim([KIND], "f", "r1")
        assert slot is not None
        link.took(replace(slot, function="f", revision="r1"), 1)
        pod = slot.id.rpartition(".")[0]
        await becomes_true(lambda: _limits(site, pod).get("cpu") == "72m", "its container is resized")
        assert slot.id not in dict(listener.gone)


def _limits(site: Site, pod: str) -> dict[str, str]:
    status = site.cluster.get("pod", pod, "-n", site.namespace)["status"]["containerStatuses"][0]
    assert status["restartCount"] == 0
    return (status.get("resources") or {}).get("limits") or {}


REFUSED = {
    "no code": ({"handler": "a.b", "code": {}}, "exactly one of"),
    "two codes": ({"handler": "index.b", "code": {"inline": "x", "configMap": {"name": "y"}}}, "exactly one of"),
    "inline code with another handler": ({"handler": "app.b", "code": {"inline": "x"}}, "index.py"),
    "the platform's bucket": (
        {"handler": "a.b", "code": {"s3": {"bucket": "okiba", "key": "k"}}},
        "the platform's own",
    ),
    "a reserved variable": (
        {"handler": "index.b", "code": {"inline": "x"}, "environment": {"AWS_REGION": "mars"}},
        "platform sets",
    ),
    "a variable that is none": (
        {"handler": "index.b", "code": {"inline": "x"}, "environment": {"1X": "y"}},
        "a variable's name",
    ),
    "a variable twice": (
        {
            "handler": "index.b",
            "code": {"inline": "x"},
            "environment": {"KEY": "y"},
            "secrets": [{"variable": "KEY", "name": "s", "key": "k"}],
        },
        "either in environment or in secrets",
    ),
    "too little memory": ({"handler": "index.b", "code": {"inline": "x"}, "memorySize": 64}, "memorySize"),
    "too long a timeout": ({"handler": "index.b", "code": {"inline": "x"}, "timeout": 901}, "timeout"),
    "an unknown runtime": ({"handler": "index.b", "code": {"inline": "x"}, "runtime": "nodejs22.x"}, "runtime"),
    "a field of a pod": ({"handler": "index.b", "code": {"inline": "x"}, "hostNetwork": True}, "hostNetwork"),
}


@pytest.mark.parametrize(("spec", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_the_cluster_refuses_the_same_on_create_and_on_update(
    cluster: Cluster, namespace: str, spec: dict, told: str
) -> None:
    cluster.kubectl("apply", "--server-side", "--filename", str(CRD))
    good = {"handler": "index.handler", "code": {"inline": "def handler(e, c): pass"}}
    for name in ("fresh", "known"):
        if name == "known":
            _apply(cluster, namespace, name, good)
        with pytest.raises(AssertionError, match=told):
            _apply(cluster, namespace, name, spec)


def _apply(cluster: Cluster, namespace: str, name: str, spec: dict) -> None:
    metadata = {"name": name, "namespace": namespace}
    document = {"apiVersion": "okiba.dev/v1alpha1", "kind": "Function", "metadata": metadata, "spec": spec}
    cluster.kubectl("apply", "--filename=-", "--validate=strict", stdin=json.dumps(document))
