"""etcd, the API server and what works on its objects: processes of this machine, each with its options."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.cluster.layout import API_ADDRESS, CGROUP, ETCD, RUN, SERVICES
from tests.cluster.making.programs import KUBERNETES_AND_ETCD
from tests.cluster.parts import processes
from tests.cluster.parts.api import Api
from tests.cluster.parts.certificates import AUTHORITY, FOLDER, certificate, key, kubeconfig
from tests.cluster.parts.waiting import until

GROUP: Final = f"{CGROUP}/control"
API_SERVER_NAME: Final = "kube-apiserver"
READY_S: Final = 90.0
REPOSITORY: Final = Path(__file__).parents[3]

ETCD_OPTIONS: Final = {
    "data-dir": str(RUN / "etcd"),
    "listen-client-urls": ETCD,
    "advertise-client-urls": ETCD,
    "listen-peer-urls": "http://127.0.0.1:12380",
    "unsafe-no-fsync": "true",  # the data are gone with the cluster anyway
    "log-level": "warn",
}

# The API server has to listen where it is advertised, or the `kubernetes` Service leads nowhere.
API_SERVER_OPTIONS: Final = {
    "advertise-address": API_ADDRESS,
    "bind-address": API_ADDRESS,
    "secure-port": "6443",
    "etcd-servers": ETCD,
    "service-cluster-ip-range": SERVICES,
    "client-ca-file": str(AUTHORITY),
    "tls-cert-file": str(certificate("apiserver")),
    "tls-private-key-file": str(key("apiserver")),
    "kubelet-client-certificate": str(certificate("apiserver")),
    "kubelet-client-key": str(key("apiserver")),
    "kubelet-certificate-authority": str(AUTHORITY),
    "kubelet-preferred-address-types": "InternalIP",  # nobody resolves the nodes' names
    # For aggregated APIs, of which there are none; without, everything that asks who may ask complains for ever.
    "requestheader-client-ca-file": str(AUTHORITY),
    "requestheader-allowed-names": "aggregator",
    "requestheader-username-headers": "X-Remote-User",
    "service-account-issuer": "https://kubernetes.default.svc",
    "service-account-key-file": str(FOLDER / "service-accounts.pub"),
    "service-account-signing-key-file": str(key("service-accounts")),
    "authorization-mode": "Node,RBAC",
    "enable-admission-plugins": "NodeRestriction",
    "anonymous-auth": "false",
    "allow-privileged": "true",
    "profiling": "false",
}

CONTROLLER_MANAGER_OPTIONS: Final = {
    "kubeconfig": str(kubeconfig("controller-manager")),
    "authentication-kubeconfig": str(kubeconfig("controller-manager")),
    "authorization-kubeconfig": str(kubeconfig("controller-manager")),
    "bind-address": "127.0.0.1",
    "leader-elect": "false",
    "root-ca-file": str(AUTHORITY),
    "service-account-private-key-file": str(key("service-accounts")),
    "use-service-account-credentials": "true",
    "kube-api-qps": "200",
    "kube-api-burst": "400",
}

SCHEDULER_OPTIONS: Final = {
    "kubeconfig": str(kubeconfig("scheduler")),
    "authentication-kubeconfig": str(kubeconfig("scheduler")),
    "authorization-kubeconfig": str(kubeconfig("scheduler")),
    "bind-address": "127.0.0.1",
    "leader-elect": "false",
    "kube-api-qps": "200",
    "kube-api-burst": "400",
}


def start_control_plane() -> None:
    """Starts etcd and the API server."""
    _start("etcd", ETCD_OPTIONS)
    _start(API_SERVER_NAME, API_SERVER_OPTIONS)


def start_controllers() -> None:
    """Starts what gives up when it finds no API server."""
    _start("kube-controller-manager", CONTROLLER_MANAGER_OPTIONS)
    _start("kube-scheduler", SCHEDULER_OPTIONS)


def start_own_parts() -> None:
    """Starts what is the suite's own: the enforcer of NetworkPolicies and the maker of volumes."""
    for name, module in {"policies": "tests.cluster.policies", "volumes": "tests.cluster.parts.volumes"}.items():
        command = ["env", f"--chdir={REPOSITORY}", sys.executable, "-m", module]
        processes.start(name, command, f"{GROUP}/{name}")


def await_api_server() -> None:
    """Returns when the API server is ready."""
    api = Api()
    until(lambda: api.answers("/readyz"), "the API server to be ready", READY_S, processes.log(API_SERVER_NAME))


def stop_api_server() -> None:
    """The API server is away until it is started again; etcd keeps what it knew."""
    processes.end(API_SERVER_NAME)


def restart_api_server() -> None:
    """Starts the API server that was stopped; returns when it is ready."""
    processes.restart(API_SERVER_NAME)
    await_api_server()


def _start(part: str, options: Mapping[str, str]) -> None:
    flags = [f"--{name}={value}" for name, value in options.items()]
    processes.start(part, [str(KUBERNETES_AND_ETCD.path), part, *flags], f"{GROUP}/{part}")
