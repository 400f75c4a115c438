"""Pods for the cluster's own tests: one that answers, one to call from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests import images as product_images
from tests.cluster.access import Cluster
from tests.cluster.making import images

PORT = 8080
READY_S = 120

ANSWER = f"""
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"here")
http.server.ThreadingHTTPServer(("", {PORT}), Answer).serve_forever()
"""

CALL = """
import sys, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=2).read().decode())
    except OSError as error:
        reason = getattr(error, "reason", error)
        print(getattr(reason, "strerror", None) or reason)
"""
"""A line for each address: what answers there, or why nothing does."""


def pod(name: str, namespace: str, node: str = "", labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A pod that answers "here"; on this node, or on any."""
    container = {
        "name": "main",
        "image": product_images.base().reference,
        "imagePullPolicy": "Never",
        "command": ["python3", "-u", "-c", ANSWER],
        "ports": [{"name": "web", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    place = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, **(labels or {})}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **place},
    }


def service(name: str, namespace: str) -> dict[str, Any]:
    """A Service before the pod of this name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "web"}]},
    }


def run_pods(cluster: Cluster, *pods: dict[str, Any]) -> None:
    """These pods are ready."""
    if cluster.own:
        images.load([product_images.base().archive], print)
    cluster.apply(*pods)
    for one in pods:
        await_ready(cluster, one["metadata"]["name"], one["metadata"]["namespace"])


def await_ready(cluster: Cluster, name: str, namespace: str) -> None:
    """This pod is ready."""
    awaited = ["wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={READY_S}s"]
    cluster.kubectl(*awaited, "--namespace", namespace, seconds=READY_S + 10)


def address(cluster: Cluster, name: str, namespace: str) -> str:
    """The pod's address."""
    return str(cluster.get("pod", name, "--namespace", namespace)["status"]["podIP"])


def call(cluster: Cluster, caller: str, namespace: str, *urls: str) -> list[str]:
    """What this pod hears from each of these, or why it hears nothing."""
    command = ["exec", caller, "--namespace", namespace, "--", "python3", "-c", CALL, *urls]
    return cluster.kubectl(*command).splitlines()
