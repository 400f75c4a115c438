"""Where everything of the cluster is: names, addresses, folders. Facts only; nothing here touches the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from okiba.apps.local.tools import cache_dir

KUBERNETES: Final = "1.34.4"

CACHE: Final = cache_dir(os.environ) / "cluster"
"""What outlives the cluster: programs, images, and the nodes' containerd with the images they have unpacked."""

PROGRAMS: Final = CACHE / "bin"
IMAGES: Final = CACHE / "images"

RUN: Final = Path("/var/lib/okiba-cluster")
"""What is gone with the cluster. The path is short: Unix sockets lie below it, whose names have 107 bytes."""

LOGS: Final = CACHE / "logs"
PROCESSES: Final = RUN / "processes"
KUBECONFIG: Final = RUN / "admin.kubeconfig"

CGROUP: Final = "okiba-cluster"
"""The name, in every controller's hierarchy, of the group below which everything of the cluster runs."""

API_ADDRESS: Final = "10.199.0.1"
API_SERVER: Final = f"https://{API_ADDRESS}:6443"
SERVICES: Final = "10.96.0.0/16"
API_SERVICE: Final = "10.96.0.1"
DNS_SERVICE: Final = "10.96.0.10"
PODS: Final = "10.244.0.0/16"
ETCD: Final = "http://127.0.0.1:12379"
"""Not etcd's usual port: a machine may have an etcd of its own."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its own mount namespace, its containerd and its kubelet.

    Args:
        address: Where its kubelet listens and other nodes send its pods' packets.
        pods: The addresses of its pods.
        link: The address, on this machine, of the cable to a node with a network of its own; empty for the node that
            shares this machine's network.
    """

    name: str
    address: str
    pods: str
    link: str = ""

    @property
    def folder(self) -> Path:
        """What the node writes and is gone with it."""
        return RUN / self.name

    @property
    def containerd_root(self) -> Path:
        """Its images; kept."""
        return CACHE / self.name

    @property
    def containerd_socket(self) -> Path:
        """As seen from outside of the node."""
        return self.folder / "run-containerd" / "containerd.sock"

    @property
    def cgroup(self) -> str:
        """Its pods' and, for freezing it as a whole, its services' group."""
        return f"{CGROUP}/{self.name}"


NODE_ONE: Final = Node("node1", API_ADDRESS, "10.244.1.0/24")
NODE_TWO: Final = Node("node2", "10.199.1.2", "10.244.2.0/24", link="10.199.1.1")
NODES: Final = (NODE_ONE, NODE_TWO)
