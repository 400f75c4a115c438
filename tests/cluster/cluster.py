"""The cluster as a whole: up, down, and how it is."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from okiba.apps.local.tools import Say
from okiba.core.errors import NotFound, PlatformError
from tests.cluster.layout import CACHE, CGROUP, LOGS, NODES, RUN
from tests.cluster.making.images import DNS, PAUSE, ensure_images, image_archive, load, product
from tests.cluster.making.programs import ensure_programs
from tests.cluster.making.requirements import require
from tests.cluster.parts import cgroups, machine, processes
from tests.cluster.parts.api import Api
from tests.cluster.parts.certificates import make_certificates
from tests.cluster.parts.control_plane import await_api_server, start_control_plane, start_controllers, start_own_parts
from tests.cluster.parts.node import connect_node, disconnect_node, start_kubelet, start_node
from tests.cluster.parts.volumes import STORAGE_CLASS
from tests.cluster.parts.waiting import until

MANIFESTS: Final = Path(__file__).parent / "parts" / "manifests"
READY_S: Final = 90.0
SYSTEM_PODS: Final = "/api/v1/namespaces/kube-system/pods"


def up(say: Say) -> bool:
    """Makes the cluster run; false for one that ran already, which is left as it is.

    Raises:
        NotFound: The machine cannot carry it.
        PlatformError: A part could not be built, or did not get ready.
    """
    require()
    with alone():
        if _gets_ready():
            return False
        _clean()
        ensure_programs(say)
        ensure_images()
        _start(say)
        return True


def build_if_possible(say: Say) -> None:
    """Builds all that tests need, which takes too long to do in one of them; where nothing can be built they skip."""
    try:
        require()
    except NotFound as missing:
        say(str(missing))
        return
    with alone():
        ensure_programs(say)
        ensure_images()
    product()


def down() -> None:
    """Ends everything that `up` has started and takes away what it has made; images and programs stay."""
    with alone():
        _clean()


def is_up() -> bool:
    """Whether every process of it runs and the API server is ready."""
    return _every_process_runs() and Api().answers("/readyz")


def status() -> list[str]:
    """A line for each of its processes and nodes."""
    lines = [
        f"{service.name:24} {f'pid {service.pid}' if service.runs else 'ended'}" for service in processes.all_recorded()
    ]
    if not is_up():
        return [*lines, "the cluster is not up"]
    nodes = Api().get("/api/v1/nodes")["items"]
    return [*lines, *(f"{node['metadata']['name']:24} {'Ready' if _is_ready(node) else 'not ready'}" for node in nodes)]


def _gets_ready() -> bool:
    """Whether it is up, or will be: on a busy machine a server may be slow to answer, and somebody's work is on it."""
    if not _every_process_runs():
        return False
    try:
        await_api_server()
    except PlatformError:
        return False
    return True


def _every_process_runs() -> bool:
    started = processes.all_recorded()
    return bool(started) and all(service.runs for service in started)


def _start(say: Say) -> None:
    say("Starting the cluster")
    RUN.mkdir(mode=0o755)
    shutil.rmtree(LOGS, ignore_errors=True)
    make_certificates()
    machine.prepare()
    start_control_plane()
    for node in NODES:
        start_node(node)
        if node.link:
            connect_node(node)
    _load_own_images(say)
    await_api_server()
    start_controllers()
    for node in NODES:
        start_kubelet(node)
    start_own_parts()
    Api().apply(STORAGE_CLASS)
    for document in yaml.safe_load_all((MANIFESTS / "coredns.yaml").read_text()):
        Api().apply(document)
    until(_all_ready, "the nodes and CoreDNS to be ready", READY_S, processes.log("node1-kubelet"))


def _load_own_images(say: Say) -> None:
    for node in NODES:
        until(node.containerd_socket.exists, f"containerd of {node.name}", log=processes.log(f"{node.name}-containerd"))
    load([image_archive(image) for image in (PAUSE, DNS)], say)


def _all_ready() -> bool:
    api = Api()
    ready = [_is_ready(node) for node in api.get("/api/v1/nodes")["items"]]
    pods = [_is_ready(pod) for pod in api.get(f"{SYSTEM_PODS}?labelSelector=k8s-app%3Dkube-dns")["items"]]
    return len(ready) == len(NODES) and all(ready) and bool(pods) and all(pods)


def _is_ready(thing: dict[str, Any]) -> bool:
    conditions: Iterable[dict[str, str]] = thing["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _clean() -> None:
    """From wherever it was left: running, half started, or killed."""
    cgroups.end_members(CGROUP)
    for node in NODES:
        disconnect_node(node)
    machine.restore()
    cgroups.remove_group(CGROUP)
    shutil.rmtree(RUN, ignore_errors=True)


def leftovers() -> list[str]:
    """What is still there of a cluster that was taken down; for tests, which expect nothing."""
    groups = [str(group) for group in cgroups.HIERARCHIES.glob(f"*/{CGROUP}")]
    folder = [str(RUN)] if RUN.exists() else []
    return [*groups, *folder, *machine.leftovers()]


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time builds, starts, ends or breaks the cluster; the next finds what this one has left."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
