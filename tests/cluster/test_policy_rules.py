"""From policies to nftables: what the table says, without a cluster."""

from __future__ import annotations

from typing import Any

from tests.cluster.policies.model import EGRESS, INGRESS, Pod, Selector, World, read_pod, read_policy
from tests.cluster.policies.rules import chains, table
from tests.cluster.policies.watching import current_pods

WEB = ("TCP", "web", 8080)
NEAR = Pod("shop", "10.244.1.2", {"app": "near"}, (WEB,))
FAR = Pod("shop", "10.244.2.2", {"app": "far"}, (("TCP", "web", 9090),))
STRANGER = Pod("street", "10.244.2.9", {"app": "near"})
NAMESPACES = {"shop": {"team": "shop"}, "street": {"team": "street"}}


def world(**spec: Any) -> World:
    document = {"metadata": {"namespace": "shop", "name": "it"}, "spec": {"podSelector": {}, **spec}}
    return World([read_policy(document)], [NEAR, FAR, STRANGER], NAMESPACES)


def accepted(seen: World, direction: str) -> dict[str, tuple[str, ...]]:
    return {address: chain.accepts for chain in chains(seen, direction) for address in chain.addresses}


def test_a_policy_without_rules_isolates_the_pods_of_its_own_namespace():
    assert accepted(world(policyTypes=["Ingress"]), INGRESS) == {NEAR.address: (), FAR.address: ()}


def test_a_policy_that_names_no_direction_is_about_ingress_and_about_egress_if_it_has_such_rules():
    assert accepted(world(), EGRESS) == {}
    assert NEAR.address in accepted(world(egress=[]), EGRESS)


def test_an_empty_rule_lets_everybody_through():
    assert set(accepted(world(ingress=[{}]), INGRESS).values()) == {("return",)}


def test_pods_are_meant_in_the_policys_namespace_unless_namespaces_are_named():
    near = {"podSelector": {"matchLabels": {"app": "near"}}}
    own = accepted(world(ingress=[{"from": [near]}]), INGRESS)[FAR.address]
    street = {"namespaceSelector": {"matchLabels": {"team": "street"}}}
    theirs = accepted(world(ingress=[{"from": [{**near, **street}]}]), INGRESS)[FAR.address]
    assert own == ("ip saddr { 10.244.1.2 } return",)
    assert theirs == ("ip saddr { 10.244.2.9 } return",)


def test_a_peer_that_is_nobody_lets_nobody_through():
    nobody = {"podSelector": {"matchLabels": {"app": "none"}}}
    assert accepted(world(ingress=[{"from": [nobody]}]), INGRESS)[NEAR.address] == ()


def test_a_block_has_exceptions_and_ports_may_be_ranges():
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}}
    rule = {"to": [block], "ports": [{"port": 100, "endPort": 200}, {"protocol": "UDP", "port": 53}]}
    assert accepted(world(egress=[rule]), EGRESS)[NEAR.address] == (
        "ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16, 10.2.0.0/16 } tcp dport 100-200 return",
        "ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16, 10.2.0.0/16 } udp dport 53 return",
    )


def test_a_ports_name_is_what_the_receiver_calls_so():
    rule = {"ports": [{"port": "web"}]}
    assert accepted(world(ingress=[rule]), INGRESS) == {
        NEAR.address: ("tcp dport 8080 return",),
        FAR.address: ("tcp dport 9090 return",),
    }
    assert accepted(world(egress=[rule]), EGRESS)[NEAR.address] == (
        "ip daddr { 10.244.1.2 } tcp dport 8080 return",
        "ip daddr { 10.244.2.2 } tcp dport 9090 return",
    )


def test_a_port_without_a_number_is_all_of_its_protocol():
    assert accepted(world(egress=[{"ports": [{"protocol": "UDP"}]}]), EGRESS)[NEAR.address] == (
        "ip protocol udp return",
    )


def test_pods_under_the_same_policies_share_a_chain():
    slots = [Pod("shop", f"10.244.1.{number}", {}) for number in range(10, 110)]
    seen = World(world(policyTypes=["Ingress"]).policies, slots, NAMESPACES)
    assert [len(chain.addresses) for chain in chains(seen, INGRESS)] == [100]


def test_every_operator_of_a_selector():
    def matches(operator: str, *values: str) -> list[bool]:
        selector = Selector(expressions=(("app", operator, values),))
        return [selector.matches(labels) for labels in ({"app": "a"}, {"app": "b"}, {})]

    assert matches("In", "a") == [True, False, False]
    assert matches("NotIn", "a") == [False, True, True]
    assert matches("Exists") == [True, True, False]
    assert matches("DoesNotExist") == [False, False, True]


def test_pods_without_an_address_of_their_own_are_no_subject_and_no_peer():
    def read(status: dict[str, str], **spec: Any) -> Pod | None:
        return read_pod(
            {"metadata": {"namespace": "a", "name": "b"}, "spec": {"containers": [], **spec}, "status": status}
        )

    assert read({"podIP": "10.244.1.1", "phase": "Running"})
    assert read({"phase": "Pending"}) is None
    assert read({"podIP": "10.244.1.1", "phase": "Succeeded"}) is None
    assert read({"podIP": "10.199.0.1", "phase": "Running"}, hostNetwork=True) is None


def test_an_address_that_went_to_a_newer_pod_is_that_pods():
    def document(name: str, created: str) -> dict[str, Any]:
        metadata = {"namespace": "a", "name": name, "labels": {"app": name}, "creationTimestamp": created}
        return {"metadata": metadata, "spec": {"containers": []}, "status": {"podIP": "10.244.1.1", "phase": "Running"}}

    documents = [document("newer", "2026-11-22T20:00:01Z"), document("older", "2026-11-22T20:00:00Z")]
    assert [pod.labels for pod in current_pods(documents)] == [{"app": "newer"}]


def test_a_world_without_policies_still_has_its_table_so_that_old_rules_go():
    assert "delete table ip okiba_policies" in table(World())
    assert "vmap" not in table(World())
