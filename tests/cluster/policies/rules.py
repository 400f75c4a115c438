"""From policies and pods to an nftables table: pure, so that tests can read what comes out.

    judge                    ct state established accept
      ├─ by sender    ─────► egress0   … return (allowed: on to the receiver's)   else reject
      └─ by receiver  ─────► ingress0  … return (allowed: through)                else reject

Pods under the same policies share a chain, so a hundred slots make one chain and a hundred entries of a map.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.cluster.policies.model import EGRESS, INGRESS, Block, Pod, Pods, Policy, Port, Rule, Selector, World

TABLE: Final = "okiba_policies"

EVERY_POD: Final = Pods(Selector(), Selector())

REFUSE: Final = "reject with icmp type admin-prohibited"
"""Told to the sender, who then need not wait: "No route to host", unlike a closed port's "Connection refused"."""

HOOKS: Final = """\
  chain forward {
    type filter hook forward priority filter; policy accept;
    jump judge
  }
  chain input {
    type filter hook input priority filter; policy accept;
    jump judge
  }"""
"""Packets from pod to pod, and from a pod to its node. A node's own packets to its pods pass: kubelets must probe."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What the pods under the same policies may do in one direction."""

    name: str
    accepts: tuple[str, ...]
    addresses: tuple[str, ...]

    def text(self) -> str:
        """As nftables reads it."""
        lines = (f"    {line}" for line in [*self.accepts, REFUSE])
        return "\n".join([f"  chain {self.name} {{", *lines, "  }"])


def table(world: World) -> str:
    """A script that puts these policies in the place of whatever was there, all at once."""
    egress = list(chains(world, EGRESS))
    ingress = list(chains(world, INGRESS))
    judge = ["    ct state established,related accept"]
    judge += [f"    ip saddr vmap {{ {_entries(egress)} }}"] if egress else []
    judge += [f"    ip daddr vmap {{ {_entries(ingress)} }}"] if ingress else []
    body = [*(chain.text() for chain in [*egress, *ingress]), "  chain judge {", *judge, "  }", HOOKS]
    return "\n".join([f"table ip {TABLE} {{}}", f"delete table ip {TABLE}", f"table ip {TABLE} {{", *body, "}", ""])


def chains(world: World, direction: str) -> Iterator[Chain]:
    """A chain for each set of pods that the same policies isolate in this direction."""
    groups: dict[tuple[tuple[Policy, ...], tuple[tuple[str, str, int], ...]], list[Pod]] = defaultdict(list)
    for pod in world.pods:
        if policies := tuple(policy for policy in world.policies if _isolates(policy, pod, direction)):
            groups[policies, pod.ports].append(pod)
    for count, ((policies, _), pods) in enumerate(groups.items()):
        rules = [(policy, rule) for policy in policies for rule in _rules(policy, direction) or ()]
        accepts = (line for policy, rule in rules for line in _accepts(world, policy, rule, direction, pods[0]))
        addresses = tuple(sorted({pod.address for pod in pods}))
        yield Chain(f"{direction.lower()}{count}", tuple(dict.fromkeys(accepts)), addresses)


def _isolates(policy: Policy, pod: Pod, direction: str) -> bool:
    mine = policy.namespace == pod.namespace and _rules(policy, direction) is not None
    return mine and policy.selector.matches(pod.labels)


def _rules(policy: Policy, direction: str) -> Sequence[Rule] | None:
    return policy.egress if direction == EGRESS else policy.ingress


def _accepts(world: World, policy: Policy, rule: Rule, direction: str, subject: Pod) -> Iterator[str]:
    """What this rule lets through, a line for each set of addresses and port."""
    for port in rule.ports or (None,):
        for receivers, number in _numbers(world, port, direction, subject):
            for addresses in _peers(world, policy, rule, direction, receivers):
                yield " ".join(part for part in (addresses, _port_match(port, number), "return") if part)


def _numbers(
    world: World, port: Port | None, direction: str, subject: Pod
) -> Iterable[tuple[Sequence[Pod] | None, int | None]]:
    """The numbers that a port stands for, each with the receivers for whom it does (None: for all of them).

    A name means what the receiver calls so, and receivers may differ.
    """
    if port is None:
        return [(None, None)]
    if not isinstance(port.port, str):
        return [(None, port.port)]
    receivers: dict[int, list[Pod]] = defaultdict(list)
    for pod in world.pods if direction == EGRESS else [subject]:
        if number := pod.number(port):
            receivers[number].append(pod)
    return [(pods if direction == EGRESS else None, number) for number, pods in receivers.items()]


def _peers(world: World, policy: Policy, rule: Rule, direction: str, among: Sequence[Pod] | None) -> Iterator[str]:
    """Matches on the other side's address; an empty one for everybody, none at all for nobody."""
    side = "ip daddr" if direction == EGRESS else "ip saddr"
    if not rule.peers and among is None:
        yield ""
    for peer in rule.peers or ([EVERY_POD] if among is not None else []):
        if isinstance(peer, Block):
            yield from _block(side, peer)
        elif addresses := _addresses(world, policy, peer, world.pods if among is None else among):
            yield f"{side} {{ {', '.join(addresses)} }}"


def _block(side: str, block: Block) -> Iterator[str]:
    if ":" not in block.addresses:  # pods have no IPv6 address here
        but = f" {side} != {{ {', '.join(block.but)} }}" if block.but else ""
        yield f"{side} {block.addresses}{but}"


def _addresses(world: World, policy: Policy, peer: Pods, pods: Iterable[Pod]) -> list[str]:
    return sorted({pod.address for pod in pods if _is_peer(world, policy, peer, pod)})


def _is_peer(world: World, policy: Policy, peer: Pods, pod: Pod) -> bool:
    if peer.namespaces is None:
        in_place = pod.namespace == policy.namespace
    else:
        in_place = peer.namespaces.matches(world.namespaces.get(pod.namespace, {}))
    return in_place and peer.pods.matches(pod.labels)


def _port_match(port: Port | None, number: int | None) -> str:
    if port is None:
        return ""
    protocol = port.protocol.lower()
    if number is None:
        return f"ip protocol {protocol}"
    return f"{protocol} dport {f'{number}-{port.last}' if port.last else number}"


def _entries(chains: Iterable[Chain]) -> str:
    return ", ".join(f"{address} : jump {chain.name}" for chain in chains for address in chain.addresses)
