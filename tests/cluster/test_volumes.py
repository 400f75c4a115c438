"""A claim of the default storage class gets a volume, which outlives its pod and goes with its claim."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.access import Cluster
from tests.cluster.parts.volumes import FOLDER
from tests.cluster.pods import pod, run_pods
from tests.deadline import until

pytestmark = pytest.mark.timeout(300)


def claim(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def keeper(name: str, namespace: str, node: str) -> dict[str, Any]:
    """A pod that is not root, with the volume at /kept."""
    it = pod(name, namespace, node)
    it["spec"]["securityContext"] = {"runAsUser": 65532}
    it["spec"]["volumes"] = [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}]
    it["spec"]["containers"][0]["volumeMounts"] = [{"name": "kept", "mountPath": "/kept"}]
    return it


def test_what_one_pod_has_written_another_reads_and_nothing_of_it_stays(own_cluster: Cluster, namespace: str):
    own_cluster.apply(claim(namespace))
    run_pods(own_cluster, keeper("writer", namespace, "node1"))
    own_cluster.kubectl("exec", "writer", "--namespace", namespace, "--", "sh", "-c", "echo something > /kept/it")
    own_cluster.kubectl("delete", "pod", "writer", "--namespace", namespace)
    run_pods(own_cluster, keeper("reader", namespace, "node2"))
    assert own_cluster.kubectl("exec", "reader", "--namespace", namespace, "--", "cat", "/kept/it") == "something\n"

    volume = own_cluster.get("pvc", "kept", "--namespace", namespace)["spec"]["volumeName"]
    assert (FOLDER / volume / "it").exists()
    own_cluster.kubectl("delete", "pod", "reader", "--namespace", namespace)
    own_cluster.kubectl("delete", "pvc", "kept", "--namespace", namespace)
    until(lambda: not (FOLDER / volume).exists(), "the folder to be taken away")
