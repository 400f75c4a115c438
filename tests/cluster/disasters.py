"""What befalls clusters, brought about on the suite's own: each lasts as long as its `with` block."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.access import Cluster
from tests.cluster.cluster import alone
from tests.cluster.layout import CGROUP, NODE_TWO
from tests.cluster.parts import cgroups
from tests.cluster.parts.control_plane import restart_api_server, stop_api_server
from tests.cluster.parts.node import outer_link


@contextmanager
def frozen_node() -> Iterator[None]:
    """Everything on the second node stands still, kubelet and containerd with its pods, as on a machine that hangs.

    Its network still says "received": who has a connection to there finds out by silence only.
    """
    cgroups.set_frozen(NODE_TWO.cgroup, frozen=True)
    try:
        yield
    finally:
        cgroups.set_frozen(NODE_TWO.cgroup, frozen=False)


@contextmanager
def unplugged_node() -> Iterator[None]:
    """The second node runs on, and nobody hears it."""
    _set_link("down")
    try:
        yield
    finally:
        _set_link("up")
        subprocess.run(["ip", "route", "replace", NODE_TWO.pods, "via", NODE_TWO.address], check=True)


@contextmanager
def no_api_server() -> Iterator[None]:
    """The API server was killed; it is ready again when the block is left."""
    with alone():  # or another session would find a broken cluster, and start it afresh
        stop_api_server()
        try:
            yield
        finally:
            restart_api_server()


def end_container(cluster: Cluster, namespace: str, pod: str, container: str) -> None:
    """Kills every process of a container at once, as running out of memory does where control groups are of version 2.

    Here they are of version 1, and it kills one process only.
    """
    found = cluster.get("pod", pod, "--namespace", namespace)
    states = {state["name"]: state for state in found["status"]["containerStatuses"]}
    identity = states[container]["containerID"].removeprefix("containerd://")
    (group,) = (cgroups.FREEZER / f"{CGROUP}/{found['spec']['nodeName']}").rglob(identity)
    cgroups.end_members(str(group.relative_to(cgroups.FREEZER)))


def _set_link(state: str) -> None:
    subprocess.run(["ip", "link", "set", outer_link(NODE_TWO), state], check=True)
