"""NetworkPolicies are enforced here: every refusal is beside the same connection that works without the policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.access import Cluster
from tests.cluster.layout import API_ADDRESS
from tests.cluster.pods import PORT, address, await_ready, call, pod, run_pods
from tests.deadline import until

pytestmark = pytest.mark.timeout(300)

REFUSED = "No route to host"
NOBODY: dict[str, Any] = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[str]:
    """A namespace with a caller and a server on node1, and another server on node2."""
    if not cluster.own:
        pytest.skip("how policies are enforced there is that cluster's own affair")
    on = {"caller": "node1", "near": "node1", "far": "node2"}
    with cluster.fresh_namespace() as namespace:
        run_pods(cluster, *(pod(name, namespace, node) for name, node in on.items()))
        yield namespace


class Scene:
    """The caller's view of things under a policy."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.urls = {name: f"http://{address(cluster, name, namespace)}:{PORT}" for name in ("near", "far")}

    def hears(self, *names: str) -> dict[str, str]:
        heard = call(self.cluster, "caller", self.namespace, *(self.urls[name] for name in names))
        return dict(zip(names, heard, strict=True))

    def apply(self, spec: dict[str, Any]) -> None:
        self.cluster.apply(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "the-policy", "namespace": self.namespace},
                "spec": spec,
            }
        )

    def withdraw(self) -> None:
        self.cluster.kubectl("delete", "networkpolicy", "--all", "--namespace", self.namespace)

    def comes_to(self, expected: dict[str, str]) -> None:
        until(lambda: self.hears(*expected) == expected, f"{expected}")


@pytest.fixture
def scene(cluster: Cluster, place: str) -> Iterator[Scene]:
    """Everybody hears everybody, to begin with."""
    scene = Scene(cluster, place)
    scene.comes_to({"near": "here", "far": "here"})
    yield scene
    scene.withdraw()


def test_what_is_refused_under_a_policy_works_before_and_after_it(scene):
    scene.apply(NOBODY)
    scene.comes_to({"near": REFUSED, "far": REFUSED})
    scene.withdraw()
    scene.comes_to({"near": "here", "far": "here"})


def test_ingress_is_refused_to_the_selected_pods_only(scene):
    scene.apply({"podSelector": {"matchLabels": {"app": "far"}}, "policyTypes": ["Ingress"]})
    scene.comes_to({"near": "here", "far": REFUSED})


def test_egress_goes_to_the_addresses_of_a_block_but_for_its_exceptions(scene):
    far = scene.urls["far"].removeprefix("http://").partition(":")[0]
    block = {"ipBlock": {"cidr": "10.244.0.0/16", "except": [f"{far}/32"]}}
    scene.apply(
        {"podSelector": {"matchLabels": {"app": "caller"}}, "policyTypes": ["Egress"], "egress": [{"to": [block]}]}
    )
    scene.comes_to({"near": "here", "far": REFUSED})


def test_a_port_is_meant_by_its_number_or_its_name(scene):
    def only(port: Any) -> dict[str, Any]:
        return {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": port}]}]}

    scene.apply(only(PORT + 1))
    scene.comes_to({"near": REFUSED, "far": REFUSED})
    scene.apply(only("web"))
    scene.comes_to({"near": "here", "far": "here"})


def test_another_namespace_is_let_in_by_its_labels(scene):
    with scene.cluster.fresh_namespace(team="friends") as friends:
        run_pods(scene.cluster, pod("caller", friends))
        own = {"podSelector": {"matchLabels": {"app": "near"}}, "policyTypes": ["Ingress"]}
        scene.apply({**own, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "friends"}}}]}]})
        scene.comes_to({"near": REFUSED})
        assert call(scene.cluster, "caller", friends, scene.urls["near"]) == ["here"]


def test_the_api_server_is_out_of_reach_under_a_policy_though_it_is_no_pod(scene):
    scene.urls["api"] = f"https://{API_ADDRESS}:6443/readyz"
    assert "certificate" in scene.hears("api")["api"].lower()  # it was reached: the caller does not trust it
    scene.apply(NOBODY)
    scene.comes_to({"api": REFUSED})


def test_a_kubelet_probes_its_pods_whatever_the_policies_say(scene):
    scene.apply(NOBODY)
    scene.comes_to({"near": REFUSED, "far": REFUSED})
    scene.cluster.apply(pod("late", scene.namespace, "node2"))
    await_ready(scene.cluster, "late", scene.namespace)
