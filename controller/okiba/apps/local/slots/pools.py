"""How many warm slots of which kind this machine should keep. Pure: what is known in, numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from okiba.core.function import Function


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """The operator's part.

    Args:
        default_runtime: Kept warm even before the first function is deployed.
        slots: Warm slots per Python version in use.
        layer_slots: Warm slots per layer.
        layers: At most so many layers have any: those used or deployed last.
    """

    default_runtime: str
    slots: int
    layer_slots: int
    layers: int


def desired_pools(
    functions: Iterable[Function], used_ms: Mapping[str, int], ready: Set[str], policy: PoolPolicy
) -> dict[str, int]:
    """Warm slots wanted, by kind.

    Args:
        used_ms: When slots of a kind with a layer were last asked for.
        ready: Kinds whose layer is built; others cannot have slots yet.
    """
    runtimes = {policy.default_runtime}
    recent: dict[str, int] = {}
    for function in functions:
        runtimes.add(function.runtime)
        kind = function.kind
        if function.layer and kind in ready:
            recent[kind] = max(recent.get(kind, 0), function.last_modified_ms, used_ms.get(kind, 0))
    latest = sorted(recent, key=lambda kind: (-recent[kind], kind))[: policy.layers]
    return dict.fromkeys(sorted(runtimes), policy.slots) | dict.fromkeys(latest, policy.layer_slots)


def split_kind(kind: str) -> tuple[str, str]:
    """Runtime and layer hash of a pool's name; the hash is empty without a layer."""
    runtime, _, layer = kind.partition("+")
    return runtime, layer
