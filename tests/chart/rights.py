"""What service accounts may do, as a table: of the chart's Roles, and as a cluster answers when it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tests.chart.rendering import Document

GOLDEN = Path(__file__).parent / "rights.txt"
"""All that is allowed, one line each; whatever has no line is denied."""

FUNCTIONS = "okiba-chart-functions"
"""The functions' namespace of these tests: other installations may be on the same cluster."""

VERBS = (
    *("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"),
    *("escalate", "bind", "impersonate", "approve"),
)

TELLTALE = ("get", "create", "patch", "delete")

RESOURCES = {
    "": (
        *("pods", "pods/exec", "pods/attach", "pods/portforward", "pods/log", "pods/status", "pods/eviction"),
        *("pods/ephemeralcontainers", "pods/resize", "pods/binding", "pods/proxy", "secrets", "configmaps"),
        *("serviceaccounts", "serviceaccounts/token", "services", "services/proxy", "endpoints", "events"),
        *("persistentvolumeclaims", "persistentvolumes", "resourcequotas", "limitranges", "podtemplates"),
        *("replicationcontrollers", "namespaces", "namespaces/finalize", "nodes", "nodes/proxy", "nodes/status"),
        *("users", "groups"),
    ),
    "apps": ("deployments", "deployments/scale", "statefulsets", "daemonsets", "replicasets", "controllerrevisions"),
    "batch": ("jobs", "cronjobs"),
    "autoscaling": ("horizontalpodautoscalers",),
    "policy": ("poddisruptionbudgets",),
    "coordination.k8s.io": ("leases", "leases/okiba-controller"),
    "discovery.k8s.io": ("endpointslices",),
    "events.k8s.io": ("events",),
    "networking.k8s.io": ("networkpolicies", "ingresses"),
    "rbac.authorization.k8s.io": ("roles", "rolebindings", "clusterroles", "clusterrolebindings"),
    "admissionregistration.k8s.io": (
        *("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
        *("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
    ),
    "apiextensions.k8s.io": ("customresourcedefinitions",),
    "certificates.k8s.io": ("certificatesigningrequests",),
    "scheduling.k8s.io": ("priorityclasses",),
    "storage.k8s.io": ("storageclasses", "csidrivers"),
    "okiba.dev": ("functions", "functions/status", "functions/finalizers"),
}
"""By API group. Behind the slash is a subresource, or the name of the one object that is asked about."""

NAMED = {"leases/okiba-controller"}

UNNAMED_VERBS = {"list", "watch", "create", "deletecollection"}
"""They concern a collection, so that a right to one object says nothing about them."""


class Right(NamedTuple):
    """Somebody may do something somewhere."""

    account: str
    namespace: str
    verb: str
    resource: str
    group: str

    def __str__(self) -> str:
        return f"{self.account:<34} {self.namespace:<22} {self.verb:<7} {self.resource:<23} {self.group or 'core'}"


def golden() -> set[str]:
    """The lines of the table."""
    return {line.rstrip() for line in GOLDEN.read_text().splitlines() if line and not line.startswith("#")}


def lines(rights: Iterable[Right]) -> set[str]:
    """Rights as the table has them."""
    return {str(right) for right in rights}


def questions(accounts: Iterable[str], namespaces: Iterable[str]) -> Iterator[Right]:
    """All that could be asked; of accounts that no Role is for, only the verbs that would show one."""
    pairs = [(group, resource) for group, resources in RESOURCES.items() for resource in resources]
    for account, namespace, (group, resource) in product(accounts, namespaces, pairs):
        for verb in VERBS if account.endswith(("controller", "let-go")) else TELLTALE:
            if resource not in NAMED or verb not in UNNAMED_VERBS:
                yield Right(account, namespace, verb, resource, group)


def accounts(documents: Iterable[Document]) -> list[str]:
    """The chart's service accounts, as namespace/name."""
    return [
        f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        for one in documents
        if one["kind"] == "ServiceAccount"
    ]


def granted(documents: Iterable[Document]) -> set[Right]:
    """What the chart's Roles and bindings say, by themselves."""
    documents = list(documents)
    roles = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one["rules"]
        for one in documents
        if one["kind"] == "Role"
    }
    bindings = [one for one in documents if one["kind"] == "RoleBinding"]
    return {right for binding in bindings for right in _of_binding(binding, roles)}


def _of_binding(binding: Document, roles: dict[tuple[str, str], list[Document]]) -> Iterator[Right]:
    namespace = binding["metadata"]["namespace"]
    for subject, rule in product(binding["subjects"], roles[namespace, binding["roleRef"]["name"]]):
        account = f"{subject['namespace']}/{subject['name']}"
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"]):
            for name in rule.get("resourceNames", [""]):
                yield Right(account, namespace, verb, f"{resource}/{name}" if name else resource, group)


def review(right: Right) -> Document:
    """The SubjectAccessReview that asks for one right."""
    namespace, name = right.account.split("/")
    resource, _, rest = right.resource.partition("/")
    attributes = {"namespace": right.namespace, "verb": right.verb, "group": right.group, "resource": resource}
    attributes |= {"name": rest} if right.resource in NAMED else {"subresource": rest}
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    spec = {"user": f"system:serviceaccount:{namespace}:{name}", "groups": groups, "resourceAttributes": attributes}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
