"""The cluster's certificates: an authority of its own for each start, made by openssl, gone with the cluster."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.cluster.layout import API_ADDRESS, API_SERVER, API_SERVICE, NODES, RUN

FOLDER: Final = RUN / "certificates"
AUTHORITY: Final = FOLDER / "authority.crt"
VALID_DAYS: Final = "365"

API_NAMES: Final = (
    "IP:127.0.0.1",
    f"IP:{API_ADDRESS}",
    f"IP:{API_SERVICE}",
    "DNS:localhost",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    "DNS:kubernetes.default.svc.cluster.local",
)

SUBJECTS: Final = {
    "admin": "/O=system:masters/CN=admin",
    "policies": "/O=system:masters/CN=okiba-policies",
    "volumes": "/O=system:masters/CN=okiba-volumes",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
}
"""Name -> whom the API server takes its bearer for."""


def make_certificates() -> None:
    """A fresh authority, the API server's and the kubelets' certificates, and every client's with its kubeconfig."""
    FOLDER.mkdir(mode=0o700, parents=True)
    _openssl("authority", "/CN=okiba-cluster")
    _openssl("apiserver", "/O=system:masters/CN=kube-apiserver", API_NAMES)
    _service_account_keys()
    for node in NODES:
        _openssl(node.name, f"/O=system:nodes/CN=system:node:{node.name}", [f"IP:{node.address}", f"DNS:{node.name}"])
    for name, subject in SUBJECTS.items():
        _openssl(name, subject)
    for name in [*SUBJECTS, *(node.name for node in NODES)]:
        _write_kubeconfig(name)


def certificate(name: str) -> Path:
    """The certificate of this name."""
    return FOLDER / f"{name}.crt"


def key(name: str) -> Path:
    """Its private key."""
    return FOLDER / f"{name}.key"


def kubeconfig(name: str) -> Path:
    """The kubeconfig of this client."""
    return RUN / f"{name}.kubeconfig"


def _openssl(name: str, subject: str, addresses: Sequence[str] = ()) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", VALID_DAYS, "-subj", subject, "-keyout", str(key(name)), "-out", str(certificate(name))]
    if name != "authority":
        command += ["-CA", str(AUTHORITY), "-CAkey", str(key("authority")), "-addext", "basicConstraints=CA:FALSE"]
        command += ["-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    if addresses:
        command += ["-addext", f"subjectAltName={','.join(addresses)}"]
    subprocess.run(command, check=True, capture_output=True)


def _service_account_keys() -> None:
    """The pair that service accounts' tokens are signed and checked with."""
    private, public = key("service-accounts"), FOLDER / "service-accounts.pub"
    subprocess.run(
        ["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", private],
        check=True,
        capture_output=True,
    )
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)


def _write_kubeconfig(name: str) -> None:
    """As JSON, which is YAML too; with everything inside, so that the file can be copied."""
    user = {"client-certificate-data": _encoded(certificate(name)), "client-key-data": _encoded(key(name))}
    cluster = {"server": API_SERVER, "certificate-authority-data": _encoded(AUTHORITY)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "okiba", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "okiba", "context": {"cluster": "okiba", "user": name}}],
        "current-context": "okiba",
    }
    path = kubeconfig(name)
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1))


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
