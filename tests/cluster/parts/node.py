"""A node: a mount namespace (and, for the second, a network) in which containerd, a kubelet and a kube-proxy run.

    this machine's network                       node2's network
    ┌──────────────────────────────┐             ┌─────────────────────┐
    │ API server, etcd, …          │    veth     │ kubelet, containerd │
    │ node1: kubelet, containerd   │ .1 ─────.2  │ bridge okiba0       │
    │ bridge okiba0  10.244.1.0/24 │             │ 10.244.2.0/24       │
    └──────────────────────────────┘             └─────────────────────┘

The mount namespace is what keeps two kubelets apart, for some of their folders cannot be chosen (/var/lib/kubelet's
device plugins, /var/log/containers, /run/containerd's shims): each node sees its own there. It also makes leaving
easy: its mounts go with its last process.

`ip netns add` is not used on purpose: it mounts /run/netns over itself and hides the networks of running pods.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.cluster.layout import DNS_SERVICE, PODS, Node
from tests.cluster.making.images import PAUSE
from tests.cluster.making.programs import KUBERNETES_AND_ETCD
from tests.cluster.parts import cgroups, processes
from tests.cluster.parts.certificates import AUTHORITY, certificate, key, kubeconfig
from tests.cluster.parts.waiting import until

MOST_PODS: Final = 240
"""Fits the addresses that a node has."""

BRIDGE: Final = "okiba0"

HOLDER: Final = """
mkdir -p {targets} && {mounts} && mount -t tmpfs tmpfs /run/netns && touch {ready} && exec sleep infinity
"""
"""What keeps a node's namespaces: makes its folders its own, then waits for the end."""

CONTAINERD: Final = """
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # A machine without CAP_SYS_RESOURCE cannot give the sandbox the score -998 that it asks for.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"""


def start_node(node: Node) -> None:
    """The node's namespaces and its containerd; images can be imported as soon as it answers."""
    cgroups.make_group(node.cgroup)
    _hold_namespaces(node)
    write_containerd_config(node)
    _start_inside(node, "containerd", ["containerd", "--config", str(_file(node, "containerd.toml"))])


def connect_node(node: Node) -> None:
    """The cable to a node that has a network of its own, with routes on both ends."""
    holder = processes.recorded(f"{node.name}-holder")
    assert holder
    outside = outer_link(node)
    _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
    _ip("addr", "add", f"{node.link}/30", "dev", outside)
    _ip("link", "set", outside, "up")
    _ip("route", "replace", node.pods, "via", node.address)
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "addr", "add", f"{node.address}/30", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
        ["ip", "route", "add", "default", "via", node.link],
        ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables"],
    ):
        run_inside(node, command)


def disconnect_node(node: Node) -> None:
    """Takes away the cable, with its routes, or the bridge of the node that has its network here."""
    link = outer_link(node) if node.link else BRIDGE
    subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)


def start_kubelet(node: Node) -> None:
    """The kubelet and the kube-proxy, which register and keep the node."""
    _file(node, "kubelet.json").write_text(json.dumps(_kubelet_config(node), indent=1))
    _file(node, "proxy.json").write_text(json.dumps(_proxy_config(node), indent=1))
    program = str(KUBERNETES_AND_ETCD.path)
    kubelet = [program, "kubelet", f"--config={_file(node, 'kubelet.json')}", f"--kubeconfig={kubeconfig(node.name)}"]
    _start_inside(node, "kubelet", [*kubelet, f"--hostname-override={node.name}", f"--node-ip={node.address}"])
    _start_inside(node, "proxy", [program, "kube-proxy", f"--config={_file(node, 'proxy.json')}"])


def run_inside(node: Node, command: Sequence[str], stdin: str | None = None) -> str:
    """What this command says, run in the node's namespaces.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    ran = subprocess.run([*_entrance(node), *command], input=stdin, check=True, capture_output=True, text=True)
    return ran.stdout


def outer_link(node: Node) -> str:
    """The name, on this machine, of the cable to the node."""
    return f"okiba-{node.name}"


def write_containerd_config(node: Node) -> None:
    """containerd's configuration and that of its network."""
    cni = node.folder / "cni"
    cni.mkdir(exist_ok=True)
    _file(node, "containerd.toml").write_text(CONTAINERD.format(pause=PAUSE, cni=cni))
    bridge: dict[str, Any] = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isDefaultGateway": True,
        "hairpinMode": True,  # a pod reaches itself through its own Service
        "ipMasq": False,  # pods of the other node see the real sender, and so do the policies
        "ipam": {"type": "host-local", "ranges": [[{"subnet": node.pods}]]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    network = {"cniVersion": "0.4.0", "name": "okiba", "plugins": [bridge, ports]}
    (cni / "10-okiba.conflist").write_text(json.dumps(network))


def _hold_namespaces(node: Node) -> None:
    """A process that does nothing but keep the namespaces, in which the node's folders are its own."""
    node.containerd_root.mkdir(parents=True, exist_ok=True)
    folders = {
        "/var/lib/containerd": node.containerd_root,
        "/run/containerd": node.folder / "run-containerd",
        "/var/lib/kubelet": node.folder / "kubelet",
        "/var/lib/cni": node.folder / "addresses",
        "/var/log": node.folder / "log",
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    ready = node.folder / "ready"
    script = HOLDER.format(
        targets=" ".join([*folders, "/run/netns"]),
        mounts=" && ".join(f"mount --bind {source} {target}" for target, source in folders.items()),
        ready=ready,
    )
    network = ["--net"] if node.link else []
    command = ["unshare", "--mount", *network, "--propagation", "private", "sh", "-c", script]
    processes.start(f"{node.name}-holder", command, f"{node.cgroup}/services")
    until(ready.exists, f"the namespaces of {node.name}", log=processes.log(f"{node.name}-holder"))


def _start_inside(node: Node, name: str, command: Sequence[str]) -> None:
    processes.start(f"{node.name}-{name}", [*_entrance(node), *command], f"{node.cgroup}/services")


def _entrance(node: Node) -> list[str]:
    holder = processes.recorded(f"{node.name}-holder")
    assert holder, f"{node.name} was not started"
    network = ["--net"] if node.link else []
    return [shutil.which("nsenter") or "nsenter", "--target", str(holder.pid), "--mount", *network, "--"]


def _kubelet_config(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(AUTHORITY)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate(node.name)),
        "tlsPrivateKeyFile": str(key(node.name)),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",  # two kubelets in one root end each other's pods
        "failSwapOn": False,
        "failCgroupV1": False,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "maxPods": MOST_PODS,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "imageMinimumGCAge": "8760h",
        "imageGCHighThresholdPercent": 100,  # images come from nowhere else: none is ever dropped
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "logging": {"flushFrequency": "1s"},
    }


def _proxy_config(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": node.name,
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": str(kubeconfig("proxy"))},
        "healthzBindAddress": f"{node.address}:10256",
        "metricsBindAddress": f"{node.address}:10249",
        # Zero leaves the machine's own limits alone; a namespace may not change them.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "200ms"},
    }


def _file(node: Node, name: str) -> Path:
    return node.folder / name


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
