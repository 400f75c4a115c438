"""NetworkPolicies, pods and namespaces as values, read from the API's documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Labels: TypeAlias = Mapping[str, str]
Document: TypeAlias = Mapping[str, Any]

INGRESS: Final = "Ingress"
EGRESS: Final = "Egress"


@dataclass(frozen=True, slots=True)
class Selector:
    """Which labels are meant: all of these, and every expression (key, operator, values)."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether these labels are; the empty selector means everybody."""
        return all(labels.get(key) == value for key, value in self.labels) and all(
            _holds(labels.get(key), operator, values) for key, operator, values in self.expressions
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses, but for some of them."""

    addresses: str
    but: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods with these labels, in the namespaces with those; `namespaces` None: in the policy's own."""

    namespaces: Selector | None
    pods: Selector


Peer: TypeAlias = Block | Pods


@dataclass(frozen=True, slots=True)
class Port:
    """A port by number, by name, or (None) every one of a protocol; `last` makes it a range."""

    protocol: str
    port: int | str | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may, and on which ports; none named: everybody, every port."""

    peers: tuple[Peer, ...]
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy; a direction that it leaves alone is None, one that it forbids altogether has no rules."""

    namespace: str
    name: str
    selector: Selector
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with an address of its own; `ports` are its named ones: (protocol, name, number)."""

    namespace: str
    address: str
    labels: Labels
    ports: tuple[tuple[str, str, int], ...] = ()

    def number(self, port: Port) -> int | None:
        """The number of a named port; None when the pod has none of the name."""
        return next(
            (number for protocol, name, number in self.ports if (protocol, name) == (port.protocol, port.port)), None
        )


@dataclass(frozen=True, slots=True)
class World:
    """All that the rules depend on."""

    policies: Sequence[Policy] = ()
    pods: Sequence[Pod] = ()
    namespaces: Mapping[str, Labels] = field(default_factory=dict)


def read_policy(document: Document) -> Policy:
    """A NetworkPolicy; with the API's own rule for which directions it is about, should it not say."""
    spec = document["spec"]
    directions = spec.get("policyTypes") or [INGRESS, *([EGRESS] if "egress" in spec else [])]
    return Policy(
        namespace=document["metadata"]["namespace"],
        name=document["metadata"]["name"],
        selector=_read_selector(spec.get("podSelector")),
        ingress=_read_rules(spec.get("ingress"), "from") if INGRESS in directions else None,
        egress=_read_rules(spec.get("egress"), "to") if EGRESS in directions else None,
    )


def read_pod(document: Document) -> Pod | None:
    """A pod; None for one that has no address, has ended (its address may be another's by now), or uses its node's."""
    status, spec = document.get("status", {}), document["spec"]
    if spec.get("hostNetwork") or not status.get("podIP") or status.get("phase") in {"Succeeded", "Failed"}:
        return None
    ports = (port for container in spec["containers"] for port in container.get("ports", ()) if "name" in port)
    return Pod(
        namespace=document["metadata"]["namespace"],
        address=status["podIP"],
        labels=document["metadata"].get("labels", {}),
        ports=tuple((port.get("protocol", "TCP"), port["name"], port["containerPort"]) for port in ports),
    )


def _read_rules(rules: Iterable[Document] | None, side: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            peers=tuple(_read_peer(peer) for peer in rule.get(side) or ()),
            ports=tuple(
                Port(port.get("protocol", "TCP"), port.get("port"), port.get("endPort"))
                for port in rule.get("ports") or ()
            ),
        )
        for rule in rules or ()
    )


def _read_peer(peer: Document) -> Peer:
    if block := peer.get("ipBlock"):
        return Block(block["cidr"], tuple(block.get("except") or ()))
    namespaces = _read_selector(peer["namespaceSelector"]) if "namespaceSelector" in peer else None
    return Pods(namespaces, _read_selector(peer.get("podSelector")))


def _read_selector(selector: Document | None) -> Selector:
    selector = selector or {}
    return Selector(
        labels=tuple(sorted((selector.get("matchLabels") or {}).items())),
        expressions=tuple(
            (expression["key"], expression["operator"], tuple(expression.get("values") or ()))
            for expression in selector.get("matchExpressions") or ()
        ),
    )


def _holds(value: str | None, operator: str, values: Sequence[str]) -> bool:
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:  # DoesNotExist; the API admits no fifth
            return value is None
