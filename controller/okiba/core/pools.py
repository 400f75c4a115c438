"""How many warm slots of which kind should be kept. Pure: what is known in, numbers out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from okiba.core.function import Function
from okiba.core.slot_kind import SlotKind, kinds_for

BUCKET_MS: Final = 2_000
"""Uses are counted in buckets of about the time that making a pod takes: what a pool has to bridge."""

RECENT_MS: Final = 600_000
"""How long a kind counts as in use after a call, or a deployment, that needed it."""


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """The operator's part.

    Args:
        default_kind: Kept warm even before the first function is deployed.
        slots: Warm slots per Python version in use (and memory class, where slots are containers).
        layer_slots: Warm slots per layer.
        layers: At most so many layers have any: those used or deployed last.
    """

    default_kind: str
    slots: int
    layer_slots: int
    layers: int


def desired_pools(
    functions: Iterable[Function],
    used_ms: Mapping[str, int],
    ready: Set[str],
    policy: PoolPolicy,
    *,
    by_memory: bool = False,
) -> dict[str, int]:
    """Warm slots wanted, by kind.

    Args:
        used_ms: When slots of a kind with a layer were last asked for.
        ready: Kinds whose layer is built; others cannot have slots yet.
        by_memory: Slots are containers, so that pools differ by memory too.
    """
    bases = {policy.default_kind}
    recent: dict[str, int] = {}
    for function in functions:
        *layered, base = kinds_for(function, by_memory=by_memory)
        bases.add(base)
        for kind in ready & set(layered):
            recent[kind] = max(recent.get(kind, 0), function.last_modified_ms, used_ms.get(kind, 0))
    latest = sorted(recent, key=lambda kind: (-recent[kind], kind))[: policy.layers]
    return dict.fromkeys(sorted(bases), policy.slots) | dict.fromkeys(latest, policy.layer_slots)


class Use:
    """How many slots of each kind were taken lately; times are wall clock in ms.

    Args:
        window_ms: How far back that is.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._counts: dict[str, Counter[int]] = {}
        self.last_ms: dict[str, int] = {}

    def note(self, kind: str, now_ms: int, count: int = 1) -> None:
        """So many were taken, or waited for, just now."""
        self.last_ms[kind] = now_ms
        counts = self._counts.setdefault(kind, Counter())
        counts[now_ms // BUCKET_MS] += count
        for bucket in [bucket for bucket in counts if bucket < (now_ms - self._window_ms) // BUCKET_MS]:
            del counts[bucket]

    def peak(self, kind: str, now_ms: int) -> int:
        """The most that were taken within one bucket of the recent past."""
        since = (now_ms - self._window_ms) // BUCKET_MS
        return max((count for bucket, count in self._counts.get(kind, Counter()).items() if bucket >= since), default=0)


def sized_by_use(pools: Mapping[str, int], use: Use, fresh: Set[str], cap: int, now_ms: int) -> dict[str, int]:
    """The pools as their use lately makes them: larger, up to `cap`; or one slot where nobody came for long.

        wanted 4, most taken in 2 s: 10, cap 16 → 10
        wanted 4, nobody for ten minutes       → 1
        (test_a_pool_grows_with_its_use_and_shrinks_without)

    Args:
        fresh: Kinds that count as used anyway: the default one, and those of functions deployed lately.
    """
    return {kind: _sized(kind, count, use, cap, now_ms, used=kind in fresh) for kind, count in pools.items()}


def _sized(kind: str, count: int, use: Use, cap: int, now_ms: int, *, used: bool) -> int:
    if not used and now_ms - use.last_ms.get(kind, 0) > RECENT_MS:
        return min(count, 1)
    return max(count, min(cap, use.peak(kind, now_ms)))


def split_kind(kind: str) -> tuple[str, str]:
    """Runtime and layer hash of a pool's name; the hash is empty without a layer."""
    parsed = SlotKind.parse(kind)
    return parsed.runtime, parsed.layer
