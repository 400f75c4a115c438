"""Whether this machine can carry the cluster, and what it lacks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from okiba.core.errors import NotFound

PACKAGES: Final = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "openssl": "openssl",
    "gcc": "gcc libc6-dev",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""Program -> the Debian package that has it."""


def require() -> None:
    """Passes on a machine that can carry the cluster.

    Raises:
        NotFound: It cannot; the message says everything that is missing, and what to do.
    """
    if missing := [*_missing_surroundings(), *_missing_packages()]:
        raise NotFound(
            f"this machine cannot carry the suite's own cluster: {'; '.join(missing)}. Any other cluster serves: "
            "set OKIBA_TEST_KUBECONFIG to its kubeconfig"
        )


def _missing_surroundings() -> list[str]:
    checks = {
        "it needs Linux and root": os.name == "posix" and os.geteuid() == 0,
        "it needs cgroup v1 (found none at /sys/fs/cgroup/freezer)": Path("/sys/fs/cgroup/freezer").is_dir(),
        "it needs bridges that iptables sees (kernel module br_netfilter)": Path("/proc/sys/net/bridge").is_dir(),
        "it needs kubectl on PATH": shutil.which("kubectl"),
    }
    return [what for what, met in checks.items() if not met]


def _missing_packages() -> list[str]:
    packages = sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})
    return [f"apt-get install --no-install-recommends {' '.join(packages)}"] if packages else []
