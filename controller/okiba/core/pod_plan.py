"""Which pods to make, for callers who wait and for the pools; how large they are and what they may use. Pure.

A pod belongs to one function version, so callers of different functions need different pods; a function that grows
gets pods of several slots, because those are made faster (measured on two cores: five pods of 8 slots make 9.3 slots
a second, ten pods of one slot 3.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from okiba.core.slot_kind import SlotKind

SLOTS_A_POD: Final = 8

GROWS_FROM: Final = 5
"""So many callers of one function and more are a function that grows."""

ALONE_FROM_MB: Final = 2_048
"""From this class on a slot has a pod of its own, so that a node can be found for it."""

START_CPU_M: Final = 1_000
"""What a slot may use at least until it is somebody's: starting Python under a quota of 72 would take seconds."""

CORE_MB: Final = 1_769
"""MemorySize that Lambda gives one core for."""

OVERHEAD_MB: Final = 64
"""A container may have this beyond its class, for agent and zygote: the agent, which can report, kills first."""

WARM_MB: Final = 32
WARM_CPU_M: Final = 5
"""The least that a pod requests a slot: a warm one takes less than 25 MB and sleeps."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a slot's container may use, and what of it a node reserves: thousandths of a core, and MB."""

    cpu_m: int
    memory_mb: int
    requested_cpu_m: int
    requested_memory_mb: int


def share_of(memory_mb: int, floor_m: int, request_percent: int) -> Share:
    """A slot's share of a node, of its class as on Lambda.

        class 128, floor 1000, 10 % → 1000 m and 192 MB; requests 7 m and 32 MB
        class 2048, floor 0, 100 %  → 1157 m and 2112 MB; requests the same
        (test_a_slot_gets_the_processor_that_lambda_gives_its_memory)

    Args:
        floor_m: The least that it may use, whatever its class.
        request_percent: What of its class is reserved; 100 reserves the limits.
    """
    lambdas_m = max(1, memory_mb * 1000 // CORE_MB)
    cpu_m, limit_mb = max(lambdas_m, floor_m), memory_mb + OVERHEAD_MB
    requested_m = cpu_m if request_percent >= 100 else max(WARM_CPU_M, lambdas_m * request_percent // 100)
    requested_mb = limit_mb if request_percent >= 100 else max(WARM_MB, memory_mb * request_percent // 100)
    return Share(cpu_m, limit_mb, requested_m, requested_mb)


def start_share(memory_mb: int, floor_m: int, request_percent: int) -> Share:
    """What a slot's container is made with; see `share_of` for what it may use once it is taken."""
    return share_of(memory_mb, max(floor_m, START_CPU_M), request_percent)


def sizes_for(callers: int, memory_mb: int) -> list[int]:
    """Pods, by their number of slots, that give so many callers of one function a slot each."""
    if callers < GROWS_FROM or memory_mb >= ALONE_FROM_MB:
        return [1] * callers
    return [SLOTS_A_POD] * -(-callers // SLOTS_A_POD)


def pods_for_callers(waiting: Sequence[int], memory_mb: int, coming: Iterable[int]) -> list[int]:
    """Sizes of the pods to be made now.

        40 of one function wait, nothing is coming → five pods of 8
        3 and 1 wait, one pod of one slot is coming → three pods of one
        4 wait, a pod with 4 slots left is coming   → none
        (test_every_function_that_waits_gets_pods_of_its_own)

    Args:
        waiting: Callers without a slot, per function.
        coming: Per pod that is being made already, how many slots of it are still to come.
    """
    left = sorted(coming)
    needed: list[int] = []
    for callers in sorted(waiting, reverse=True):
        unserved = callers
        while unserved > 0 and left:
            unserved -= left.pop()
        needed += sizes_for(max(0, unserved), memory_mb)
    return needed


def most_lacking(pools: Mapping[str, int], have: Mapping[str, int]) -> list[str]:
    """Kinds whose pool is not full, the one that lacks most first."""
    missing = {kind: count - have.get(kind, 0) for kind, count in pools.items()}
    return sorted((kind for kind in missing if missing[kind] > 0), key=lambda kind: (-missing[kind], kind))


def is_growth(waiting: Sequence[int], kind: SlotKind) -> bool:
    """Whether pods of several slots would be made for these callers."""
    return kind.memory_mb < ALONE_FROM_MB and any(callers >= GROWS_FROM for callers in waiting)
