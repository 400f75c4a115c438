"""Who may talk to whom: the arrows of the network policies, and nothing beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.cases import CASES
from tests.chart.rendering import Document, find, render

Arrow = tuple[str, str, str]
"""From, to, ports."""


def _name(peer: Document) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    labels = peer["podSelector"].get("matchLabels", {})
    return labels.get("app.kubernetes.io/component") or labels.get("k8s-app") or "anyone"


def _ports(rule: Document) -> str:
    ports = {f"{port['port']}-{port['endPort']}" if "endPort" in port else str(port["port"]) for port in rule["ports"]}
    return ",".join(sorted(ports))


def _arrows(documents: list[Document], direction: str) -> Iterator[Arrow]:
    for policy in documents:
        if policy["kind"] == "NetworkPolicy":
            own = _name({"podSelector": policy["spec"]["podSelector"]})
            for rule in policy["spec"].get(direction, []):
                for peer in rule.get("from" if direction == "ingress" else "to", [None]):
                    other = _name(peer) if peer else "anyone"
                    ends = (other, own) if direction == "ingress" else (own, other)
                    yield (*ends, _ports(rule) if "ports" in rule else "any")


REDIS = {(own, "valkey", "6379") for own in ("gateway", "controller", "jobs", "beat")}
STORE = {(own, "minio", "9000") for own in ("gateway", "controller", "jobs", "beat", "slot")}
DNS = {(own, "kube-dns", "53") for own in ("gateway", "controller", "jobs", "beat", "minio", "slot", "test")}


def test_what_leaves_a_pod_goes_where_it_is_needed(defaults: list[Document]) -> None:
    assert set(_arrows(defaults, "egress")) == REDIS | STORE | DNS | {
        ("gateway", "slot", "9100-9107"),
        ("controller", "slot", "9100-9107"),
        ("gateway", "gateway", "4567"),
        ("gateway", "controller", "4568"),
        ("minio", "gateway", "4567"),
        ("slot", "gateway", "4566"),
        ("test", "gateway", "4566"),
        ("controller", "anyone", "443,6443"),
        ("jobs", "anyone", "443"),
        ("slot", "0.0.0.0/0", "any"),
        ("slot", "::/0", "any"),
    }


def test_what_comes_to_a_pod_comes_from_who_needs_it(defaults: list[Document]) -> None:
    assert set(_arrows(defaults, "ingress")) == REDIS | {
        ("anyone", "gateway", "4566"),
        ("anyone", "minio", "9000"),
        ("gateway", "gateway", "4567"),
        ("minio", "gateway", "4567"),
        ("gateway", "controller", "4568"),
        ("gateway", "slot", "9100-9107"),
        ("controller", "slot", "9100-9107"),
    }


def test_everything_else_is_denied(defaults: list[Document]) -> None:
    for namespace, selector in (
        ("okiba-chart-functions", {}),
        (
            "okiba-chart-test",
            {"matchLabels": {"app.kubernetes.io/name": "okiba", "app.kubernetes.io/instance": "okiba"}},
        ),
    ):
        [deny] = [
            one["spec"]
            for one in defaults
            if one["kind"] == "NetworkPolicy"
            and one["metadata"]["name"] == "okiba-deny"
            and one["metadata"]["namespace"] == namespace
        ]
        assert deny == {"podSelector": selector, "policyTypes": ["Ingress", "Egress"]}


def test_without_policies_there_are_none() -> None:
    assert not [one for one in render(CASES["no walls"]) if one["kind"] == "NetworkPolicy"]


def _outside(values: dict[str, Any]) -> dict[str, list[str]]:
    """The ranges that slots may reach, with what is cut out of each."""
    policy = find(render(values), "NetworkPolicy", "okiba-slots")
    blocks = [peer["ipBlock"] for rule in policy["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer]
    return {block["cidr"]: sorted(block.get("except", [])) for block in blocks}


def test_the_internet_is_open_but_for_pods_services_nodes_and_metadata() -> None:
    assert _outside({}) == {
        "0.0.0.0/0": ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"],
        "::/0": ["fc00::/7", "fe80::/10"],
    }


@pytest.mark.parametrize(
    ("allow", "deny", "left"),
    [
        pytest.param(["10.5.0.0/16"], ["10.0.0.0/8"], {"10.5.0.0/16": []}, id="a range inside a denied one is meant"),
        pytest.param(["10.0.0.0/8"], ["10.0.0.0/8"], {"10.0.0.0/8": []}, id="the same range is meant"),
        pytest.param(["10.0.0.0/8"], ["10.5.0.0/16"], {"10.0.0.0/8": ["10.5.0.0/16"]}, id="a smaller one is cut out"),
        pytest.param(["10.4.0.0/15"], ["10.6.0.0/16"], {"10.4.0.0/15": []}, id="a neighbour is not inside"),
        pytest.param(["169.0.0.0/8"], [], {"169.0.0.0/8": ["169.254.0.0/16"]}, id="metadata is cut out of any"),
        pytest.param(["168.0.0.0/5"], [], {"168.0.0.0/5": ["169.254.0.0/16"]}, id="metadata is cut out of large ones"),
        pytest.param(["8.8.8.8/32"], ["10.0.0.0/8"], {"8.8.8.8/32": []}, id="one address"),
        pytest.param(["::/0"], ["10.0.0.0/8"], {"::/0": []}, id="versions do not mix"),
        pytest.param([], ["10.0.0.0/8"], {}, id="nothing at all"),
    ],
)  # fmt: skip
def test_denied_ranges_are_cut_out_of_those_that_hold_them(
    allow: list[str], deny: list[str], left: dict[str, list[str]]
) -> None:
    assert _outside({"egress": {"allow": allow, "deny": deny}}) == left


def test_slots_reach_an_external_store_where_it_is_named_and_no_address_at_large() -> None:
    named = find(render(CASES["external servers by name"]), "NetworkPolicy", "okiba-slots")["spec"]["egress"]
    assert any(rule["to"] == CASES["external servers by name"]["networkPolicy"]["s3"] for rule in named)
    unnamed = find(
        render(CASES["external servers anywhere, a cluster, and Sentinels for the broker"]),
        "NetworkPolicy",
        "okiba-slots",
    )
    assert all("to" in rule for rule in unnamed["spec"]["egress"])


def test_functions_may_call_even_where_the_public_port_is_for_some_alone() -> None:
    policy = find(render(CASES["an Ingress with TLS"]), "NetworkPolicy", "okiba-gateway")["spec"]
    [public] = [rule for rule in policy["ingress"] if _ports(rule) == "4566"]
    assert [_name({"podSelector": {}, **peer}) for peer in public["from"]] == ["slot", "test", "anyone"]
