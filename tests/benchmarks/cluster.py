"""On a real cluster, beside pods made by hand and beside `okiba up` in the same run."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks import cold, idle
from tests.benchmarks.load import closed_loop, quantile
from tests.benchmarks.report import Row
from tests.benchmarks.warm import signed
from tests.cluster.access import Cluster
from tests.cluster.cluster import is_up, up
from tests.cluster.layout import KUBECONFIG
from tests.cluster.making.images import load, product
from tests.installation import eventually, installation
from tests.release import Release, processes_of, release

HELLO = "def handler(event, context):\n    return 'hello'\n"
WHERE = "def handler(event, context):\n    return context.log_stream_name\n"
SLEEPER = "import time\n\ndef handler(event, context):\n    time.sleep(5)\n    return context.log_stream_name\n"
AT_ONCE = 20
CALLERS = 50
ROUNDS = 5
IDLE_S = 15


def run() -> list[Row]:
    """The figures."""
    if not is_up():
        up(print)
    cluster = Cluster(KUBECONFIG, own=True)
    load(product(), print)
    settings = {"idle_slot_ms": str(IDLE_S * 1000), "warm_slots": "10", "warm_slots_cap": "40"}
    with release(cluster, {"platform": {"settings": settings}}) as here:
        return [*_cold(here), *_crowds(here), *_warm(here), *_idle(here)]


# --- from zero ------------------------------------------------------------------------------------------------------


def _cold(here: Release) -> list[Row]:
    names = [f"cold{number}" for number in range(cold.PACED + cold.UNPACED)]
    for name in names:
        here.deploy_inline(name, HELLO)
    pods = [_seconds_to_make(here, 1) for _ in range(ROUNDS)]
    paced, unpaced = [], []
    with cold.connected(here.gateway) as call:
        for name in names[: cold.PACED]:
            _await_pool(here, 4)
            paced.append(call(signed(here, f"/2015-03-31/functions/{name}/invocations")))
        for name in names[cold.PACED :]:
            unpaced.append(call(signed(here, f"/2015-03-31/functions/{name}/invocations")))
    return [
        Row(f"cluster: cold call, {cold.PACED} functions never run, paced: p50 ms", quantile(paced, 0.5), "<= 25"),
        Row(f"cluster: cold call, {cold.PACED} functions never run, paced: p95 ms", quantile(paced, 0.95), "<= 80"),
        Row(f"cluster: cold call, {cold.UNPACED} functions, unpaced: p50 ms", quantile(unpaced, 0.5)),
        Row(f"cluster: cold call, {cold.UNPACED} functions, unpaced: p95 ms", quantile(unpaced, 0.95)),
        Row("cluster: a pod made by hand, until it answers: median ms", quantile(pods, 0.5) * 1000),
    ]


def _await_pool(here: Release, count: int) -> None:
    eventually(lambda: here.metric("okiba_warm_slots") >= count, 60, 0.1)
    time.sleep(cold.SETTLED_S)


def _crowds(here: Release) -> list[Row]:
    for number in range(AT_ONCE):
        here.deploy_inline(f"one-of-many{number}", HELLO)
    ten_pods = _seconds_to_make(here, 10)
    _await_pool(here, 10)
    many = _at_once(here, [f"one-of-many{number}" for number in range(AT_ONCE)])
    here.deploy_inline("crowd", WHERE, concurrency=CALLERS)
    here.deploy_inline("sleeper", SLEEPER, concurrency=CALLERS, Timeout=60)
    _await_pool(here, 10)
    hello = _at_once(here, ["crowd"] * CALLERS)
    _await_pool(here, 10)
    sleeping = _at_once(here, ["sleeper"] * CALLERS)
    made = len({body for _, body in sleeping})
    by_hand = _seconds_to_make(here, -(-CALLERS // 8), slots=8)
    slept = max(seconds for seconds, _ in sleeping)
    return [
        Row(f"cluster: {AT_ONCE} cold functions at once, 10 warm: slowest s", max(s for s, _ in many)),
        Row("cluster: the same minus ten pods made at once by hand, s", max(s for s, _ in many) - ten_pods, "<= 1"),
        Row(f"cluster: {CALLERS} calls at once at zero, hello: slowest s", max(s for s, _ in hello), "<= 1"),
        Row(f"cluster: {CALLERS} calls at once at zero, hello: slots", len({body for _, body in hello})),
        Row(f"cluster: {CALLERS} calls at once at zero, 5 s each: slots", made, f">= {CALLERS}"),
        Row(f"cluster: the same: (slowest - 5 s) / {CALLERS} slots made by hand", (slept - 5) / by_hand, "<= 1.3"),
        Row(f"cluster: {CALLERS} slots made by hand in pods of 8, s", by_hand),
    ]


def _at_once(here: Release, names: list[str]) -> list[tuple[float, bytes]]:
    clients = [here.client("lambda") for _ in names]
    for client in clients:
        client.list_functions(MaxItems=1)
    start = time.perf_counter()

    def call(client: Any, name: str) -> tuple[float, bytes]:
        response = client.invoke(FunctionName=name)
        body = response["Payload"].read()
        if "FunctionError" in response:
            raise AssertionError(body)
        return time.perf_counter() - start, re.sub(rb'"', b"", body)

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(call, clients, names))


def _seconds_to_make(here: Release, count: int, slots: int = 1) -> float:
    """How long so many pods like Okiba's own take when they are made by hand, all at once."""
    model = eventually(lambda: here.slot_pods()[0], 60)
    pods = [_copy(model, slots) for _ in range(count)]
    start = time.perf_counter()
    here.cluster.apply(*pods)
    names = [pod["metadata"]["name"] for pod in pods]
    with contextlib.ExitStack() as after:
        after.callback(
            here.cluster.kubectl, "delete", "pods", *names, "--namespace", here.functions, "--grace-period=0", "--force"
        )
        while not all(_is_running(here, name) for name in names):
            time.sleep(0.02)
        return time.perf_counter() - start


def _is_running(here: Release, name: str) -> bool:
    told = here.cluster.get("pod", name, "--namespace", here.functions)["status"]
    states = told.get("containerStatuses", [])
    return bool(states) and all("running" in state["state"] for state in states)


def _copy(model: dict[str, Any], slots: int) -> dict[str, Any]:
    """A pod of the same kind that belongs to nobody."""
    container = model["spec"]["containers"][0]
    containers = []
    for number in range(slots):
        one = {**container, "name": f"slot-{number}"}
        one["args"] = [re.sub(r":91\d\d$", f":{9100 + number}", word) for word in container["args"]]
        containers.append(one)
    kept = ("securityContext", "volumes", "restartPolicy", "serviceAccountName", "automountServiceAccountToken")
    spec = {name: model["spec"][name] for name in kept if name in model["spec"]}
    name = f"by-hand-{secrets.token_hex(4)}"
    metadata = {"name": name, "namespace": model["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "containers": containers}}


# --- warm -----------------------------------------------------------------------------------------------------------


def _warm(here: Release) -> list[Row]:
    with installation() as machine:
        for each in (here, machine):
            each.deploy_inline("warm", "def handler(event, context):\n    return None\n")
            each.invoke("warm")
        seen: dict[str, list[float]] = {"cluster": [], "machine": []}
        rates: list[float] = []
        for _ in range(3):
            for name, target in (("cluster", here), ("machine", machine)):
                load_ = closed_loop(target.gateway, [signed(target)], 1, 3)
                seen[name].append(load_.p50)
            rates.append(closed_loop(here.gateway, [signed(here)], 32, 3).rate)
        at_each = _by_gateway(here)
    cluster, machine_p50 = quantile(seen["cluster"], 0.5), quantile(seen["machine"], 0.5)
    return [
        Row("cluster: warm call through the Service, p50 / the same on okiba up", cluster / machine_p50, "<= 1.5"),
        Row("cluster: warm call through the Service, p50 µs", cluster * 1000),
        Row("cluster: warm calls/s at 32 clients, 2 gateways", quantile(rates, 0.5)),
        Row(
            "cluster: warm call at a gateway that does not own / that owns, p50", max(at_each) / min(at_each), "<= 1.3"
        ),
    ]


def _by_gateway(here: Release) -> list[float]:
    """Median latency at each gateway in turn."""
    found = here.cluster.get("pods", "--namespace", here.namespace, "--selector=app.kubernetes.io/component=gateway")
    addresses = [f"{pod['status']['podIP']}:4566" for pod in found["items"]]
    request = signed(here)
    rounds = [[closed_loop(address, [request], 1, 2).p50 for address in addresses] for _ in range(3)]
    return [quantile(list(column), 0.5) for column in zip(*rounds, strict=True)]


# --- nothing --------------------------------------------------------------------------------------------------------


def _idle(here: Release) -> list[Row]:
    time.sleep(IDLE_S + 10)
    parts = [pid for part in ("gateway", "controller", "jobs", "beat") for pid in here.pids(part)]
    pods = here.slot_pods()
    slots = [pid for pod in pods for pid in processes_of(pod["metadata"]["uid"])]
    count = sum(len(pod["spec"]["containers"]) for pod in pods)
    before, start = sum(map(idle.ticks, parts)), time.monotonic()
    time.sleep(20)
    used = (sum(map(idle.ticks, parts)) - before) / idle.TICK / (time.monotonic() - start) * 100
    return [
        Row("cluster: idle, highly available (2 gateways, 2 controllers, jobs, beat): PSS MiB", _mib(parts), "<= 500"),
        Row("cluster: idle, highly available: % of a core", used, "<= 2"),
        Row("cluster: a warm slot, PSS MiB", _mib(slots) / max(count, 1), "<= 25"),
    ]


def _mib(pids: list[int]) -> float:
    return sum(map(idle.pss_kb, pids)) / 1024
