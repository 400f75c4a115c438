"""What a real API server says to the chart: every rendering, the rights it gives, and the two walls around slots."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import pytest
from kubernetes import config

from okiba.adapters.kube_pods import PodChoices, manifest
from okiba.core.pod_plan import Share
from okiba.core.slot_kind import SlotKind
from tests.chart import rights
from tests.chart.cases import CASES
from tests.chart.rendering import CHART, NAMESPACE, Document, containers, find, helm, pod_specs, render
from tests.cluster.access import Cluster
from tests.deadline import until

OTHERS = "okiba-chart-others"
FOREIGN = {"HTTPRoute", "ServiceMonitor"}
"""Kinds of other projects', which a cluster has when they are installed."""

STANDING = {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "ValidatingAdmissionPolicy"}
STANDING |= {"ValidatingAdmissionPolicyBinding"}
"""What is really made for these tests; none of it needs an image."""


RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "okiba-chart-test"},
    "handler": "runc",
}


def _namespace(name: str) -> Document:
    """That of functions has lost its Pod Security labels, so that the second wall stands alone."""
    labels = {} if name == rights.FUNCTIONS else {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[list[Document]]:
    """The chart's accounts, roles and policies, in namespaces of these tests' own."""
    namespaces = [NAMESPACE, rights.FUNCTIONS, OTHERS]
    documents = render({"functions": {"namespace": rights.FUNCTIONS}})
    standing = [one for one in documents if one["kind"] in STANDING]
    for one in standing:
        one["metadata"].setdefault("annotations", {}).pop("helm.sh/hook", None)
    cluster.apply(*map(_namespace, namespaces))
    try:
        cluster.apply(*standing, RUNTIME_CLASS)
        yield documents
    finally:
        for one in [*standing, RUNTIME_CLASS]:
            if "namespace" not in one["metadata"]:
                cluster.kubectl("delete", one["kind"], one["metadata"]["name"], "--ignore-not-found")
        cluster.kubectl("delete", "namespace", *namespaces, "--ignore-not-found", "--wait=false")


def _said(cluster: Cluster, *documents: Document) -> str:
    """What the API server holds against these objects; empty when it would take them."""
    everything = {"apiVersion": "v1", "kind": "List", "items": documents}
    argv = ["kubectl", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename=-"]
    done = subprocess.run(
        argv, input=json.dumps(everything), env=cluster.environment, capture_output=True, text=True, timeout=120
    )
    return done.stderr if done.returncode or "Warning" in done.stderr else ""


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_every_object(case: str, cluster: Cluster, installed: list[Document]) -> None:
    values = CASES[case]
    functions = {"namespace": rights.FUNCTIONS, **values.get("functions", {})}
    documents = [one for one in render({**values, "functions": functions}) if one["kind"] not in FOREIGN]
    assert _said(cluster, *documents) == ""


@pytest.mark.parametrize("case", CASES)
def test_pod_security_takes_every_pod(case: str, cluster: Cluster, installed: list[Document]) -> None:
    pods = []
    for number, (name, spec) in enumerate(pod_specs(render(CASES[case]))):
        claimed = {mount["name"] for one in containers(spec) for mount in one["volumeMounts"]}
        present = {volume["name"] for volume in spec["volumes"]}
        spec["volumes"] += [{"name": missing, "emptyDir": {}} for missing in claimed - present]  # StatefulSets' claims
        spec |= {"restartPolicy": "Always", "serviceAccountName": "default"}  # accounts of hooks are not there yet
        metadata = {"name": f"pod-{number}", "namespace": NAMESPACE, "annotations": {"of": name}}
        pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    assert _said(cluster, *pods) == ""


def test_helm_would_install_it_and_says_what_to_do_next(cluster: Cluster, installed: list[Document]) -> None:
    said = helm(
        *("install", "okiba", str(CHART), "--namespace", "okiba-notes", "--dry-run=server"),
        values={"functions": {"namespace": "okiba-notes-functions"}},
        environment={"KUBECONFIG": str(cluster.kubeconfig)},
    )
    notes = said[said.index("NOTES:") :]
    for line in ("FOR TRYING OUT", "rollout status deployment/okiba-gateway", "helm -n okiba-notes test okiba"):
        assert line in notes


@pytest.mark.timeout(400)  # 7,000 questions: half a minute on two quiet cores
def test_accounts_may_do_what_the_golden_table_says_and_nothing_else(
    cluster: Cluster, installed: list[Document]
) -> None:
    namespaces = [NAMESPACE, rights.FUNCTIONS, "kube-system"]
    asked = list(rights.questions(rights.accounts(installed), namespaces))
    allowed = _reviewer(cluster)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(allowed, asked, chunksize=64))
    assert rights.lines(right for right, answer in zip(asked, answers, strict=True) if answer) == rights.golden()


def _reviewer(cluster: Cluster) -> Callable[[rights.Right], bool]:
    """Asks the API server about one right. The client's models would take more time than the server does."""
    api = config.new_client_from_config(str(cluster.kubeconfig))
    url = f"{api.configuration.host}/apis/authorization.k8s.io/v1/subjectaccessreviews"
    headers = {"Content-Type": "application/json", **api.default_headers}

    def allowed(right: rights.Right) -> bool:
        body = json.dumps(rights.review(right))
        answer = api.rest_client.pool_manager.request("POST", url, body=body, headers=headers, timeout=30)
        assert answer.status == 201, answer.data
        return bool(json.loads(answer.data)["status"]["allowed"])

    return allowed


# --- the second wall -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slot(cluster: Cluster, installed: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Document:
    """A slot's pod as the controller makes it; the policy is in force."""
    path = tmp_path_factory.mktemp("slots") / "slot-pod.json"
    path.write_text(find(installed, "ConfigMap", "okiba-slot-pod")["data"]["slot-pod.json"])
    choices = PodChoices.read("okiba-slot:0.1.0-python{python}", path)
    anchor = cluster.get("configmap", "okiba-slots", "--namespace", rights.FUNCTIONS)
    share = Share(cpu_m=1000, memory_mb=128, requested_cpu_m=100, requested_memory_mb=64)
    pod = manifest("okiba-slot-0123456789ab", SlotKind.parse("python3.11/128"), 2, share, choices, anchor)
    pod["metadata"]["namespace"] = rights.FUNCTIONS
    other = _changed(pod, ("spec", "containers", 0, "image"), "x")
    until(lambda: "Okiba's own images" in _said(cluster, other), "the admission policy")
    return pod


def _changed(document: Document, path: tuple[str | int, ...], value: Any) -> Document:
    copy = deepcopy(document)
    place: Any = copy
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return copy


def test_a_slot_as_the_controller_makes_it_passes(cluster: Cluster, slot: Document) -> None:
    assert _said(cluster, slot) == ""


def test_a_slot_as_the_controller_makes_it_is_restricted(cluster: Cluster, slot: Document) -> None:
    elsewhere = _changed(slot, ("metadata", "namespace"), NAMESPACE)
    assert _said(cluster, _changed(elsewhere, ("spec", "serviceAccountName"), "default")) == ""


CONTAINER = ("spec", "containers", 0)
SECRET = {"secretKeyRef": {"name": "okiba", "key": "x"}}
WALLED: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "the node's network": (("spec", "hostNetwork"), True, "shares no namespace"),
    "the node's processes": (("spec", "hostPID"), True, "shares no namespace"),
    "the node's files": (("spec", "volumes", 0), {"name": "tmp-0", "hostPath": {"path": "/"}}, "volumes are emptyDirs"),
    "a Secret as a file": (("spec", "volumes", 0), {"name": "tmp-0", "secret": {"secretName": "x"}}, "volumes are"),
    "any ConfigMap": (("spec", "volumes", 0), {"name": "tmp-0", "configMap": {"name": "x"}}, "volumes are emptyDirs"),
    "a token": (("spec", "automountServiceAccountToken"), True, "no token"),
    "another account": (("spec", "serviceAccountName"), "default", "service account is okiba-slot"),
    "another image": ((*CONTAINER, "image"), "busybox:latest", "Okiba's own images"),
    "an image whose name begins alike": ((*CONTAINER, "image"), "okiba-slot-evil:1", "Okiba's own images"),
    "another runtime class": (("spec", "runtimeClassName"), "okiba-chart-test", "what the operator chose"),
    "root": (("spec", "securityContext", "runAsNonRoot"), False, "run as root"),
    "a writable root": ((*CONTAINER, "securityContext", "readOnlyRootFilesystem"), False, "read-only"),
    "a Secret as a variable": ((*CONTAINER, "env"), [{"name": "X", "valueFrom": SECRET}], "no Secret"),
    "a Secret as variables": ((*CONTAINER, "envFrom"), [{"secretRef": {"name": "x"}}], "no Secret"),
    "a container ahead of others": (
        ("spec", "initContainers"),
        [{"name": "first", "image": "busybox"}],
        "Okiba's own images",
    ),
}


@pytest.mark.parametrize(("path", "value", "reason"), WALLED.values(), ids=WALLED.keys())
def test_a_pod_that_is_more_than_a_slot_is_refused(
    path: tuple[str | int, ...], value: Any, reason: str, cluster: Cluster, slot: Document
) -> None:
    assert reason in _said(cluster, _changed(slot, path, value))
