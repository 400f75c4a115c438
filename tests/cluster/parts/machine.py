"""What the cluster changes on the machine that carries it, and putting that back."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

from tests.cluster.layout import API_ADDRESS, PODS, RUN
from tests.cluster.policies import rules as policies

SAVED: Final = RUN / "settings.json"

SETTINGS: Final = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "fs/inotify/max_user_instances": "8192",  # two kubelets and containerds, and what runs in their pods
    # A kubelet sets these by itself; they are named here so that they are put back.
    "vm/overcommit_memory": "1",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
}

OURS: Final = "(?:KUBE|CNI)-"
"""How the chains of kube-proxy and of the network plugins begin."""

TABLE: Final = "okiba_cluster"

MASQUERADE: Final = f"""
table ip {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {PODS} ip daddr != {{ {PODS}, 10.199.0.0/16 }} masquerade
  }}
}}
"""
"""Pods reach the world under this machine's address, and each other under their own."""


def prepare() -> None:
    """The API server's address, the settings and the translation of addresses; what was there before is remembered."""
    SAVED.write_text(json.dumps({name: _setting(name).read_text().strip() for name in SETTINGS}))
    for name, value in SETTINGS.items():
        _setting(name).write_text(value)
    _quiet("ip", "addr", "replace", f"{API_ADDRESS}/32", "dev", "lo")
    subprocess.run(["nft", "-f", "-"], input=MASQUERADE, text=True, check=True, capture_output=True)


def restore() -> None:
    """Puts the machine back as it was before `prepare`, as far as that is known."""
    for table in (TABLE, policies.TABLE):
        _quiet("nft", "delete", "table", "ip", table)
    _quiet("ip", "addr", "delete", f"{API_ADDRESS}/32", "dev", "lo")
    if SAVED.exists():
        for name, value in json.loads(SAVED.read_text()).items():
            _setting(name).write_text(value)
    for version in ("iptables", "ip6tables"):
        _remove_kubernetes_rules(version)


def leftovers() -> list[str]:
    """Links, addresses and rules of a cluster that are there."""
    links = subprocess.run(["ip", "-oneline", "address"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    marks = {links: ("okiba", API_ADDRESS), rules: ("okiba", "KUBE-", "CNI-")}
    return [line for text, words in marks.items() for line in text.splitlines() if any(word in line for word in words)]


def removal(saved: str) -> str:
    """What takes the rules and chains of kube-proxy and the network plugins out of these tables, and nothing else.

    Args:
        saved: As `iptables-save` writes it; the answer is for `iptables-restore --noflush`.
    """
    script: list[str] = []
    for table in re.findall(r"^\*.*?^COMMIT$", saved, re.MULTILINE | re.DOTALL):
        jumps = re.findall(rf"^-A ((?!{OURS}).* -j {OURS}.*)$", table, re.MULTILINE)
        chains = re.findall(rf"^:({OURS}\S+)", table, re.MULTILINE)
        if chains:
            header = table.partition("\n")[0]
            removed = [*(f"-D {jump}" for jump in jumps), *(f"-F {chain}" for chain in chains)]
            script += [header, *removed, *(f"-X {chain}" for chain in chains), "COMMIT"]
    return "\n".join([*script, ""])


def _remove_kubernetes_rules(version: str) -> None:
    saved = subprocess.run([f"{version}-save"], capture_output=True, text=True, check=False).stdout
    command = [f"{version}-restore", "--noflush"]
    subprocess.run(command, input=removal(saved), text=True, check=True, capture_output=True)


def _setting(name: str) -> Path:
    return Path("/proc/sys") / name


def _quiet(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True)
