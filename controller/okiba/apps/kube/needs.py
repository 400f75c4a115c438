"""What slots will be needed: follows the registry, the layers that are built, and what callers took lately."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from okiba.adapters.redis_layers import RedisLayers
from okiba.core.errors import PlatformError
from okiba.core.function import Function
from okiba.core.layer import LayerPhase
from okiba.core.pools import RECENT_MS, PoolPolicy, Use, desired_pools, sized_by_use
from okiba.core.slot_kind import SlotKind, kinds_for
from okiba.flow.deployed import Deployed
from okiba.ports import Registry
from okiba.settings import Settings

log = logging.getLogger(__name__)

DEFAULT_KIND: Final = str(SlotKind("python3.11", 128))
"""Kept warm before anything is deployed: the Python version whose image there surely is, in Lambda's default size."""

LAYERS_S: Final = 5.0
"""How often layers in use are looked up that were not built when last looked at."""


Parts = Callable[[Function], Awaitable[Mapping[str, Any]]]


class KubeNeeds:
    """Knows, from what is deployed and used, which pools should have how many warm slots.

    Args:
        parts: `layers` and `packages` of a function as its slots will be told them.
    """

    def __init__(self, settings: Settings, registry: Registry, layers: RedisLayers, parts: Parts) -> None:
        self._layers, self._parts = layers, parts
        self._cap = settings.warm_slots_cap
        self._policy = PoolPolicy(DEFAULT_KIND, settings.warm_slots, settings.warm_layer_slots, settings.warm_layers)
        self._use = Use(settings.idle_slot_ms)
        self._deployed = Deployed(registry)
        self._ready: dict[str, tuple[str, ...]] = {}  # layers that are built, and what they preload
        self._looked_at = -LAYERS_S
        self._pools: dict[str, int] | None = None
        self._pooled_at = 0.0

    def pools(self) -> dict[str, int]:
        """Warm slots wanted, by kind; worked out at most once a second, for there may be thousands of functions."""
        if self._pools is None or time.monotonic() - self._pooled_at > 1.0:
            self._pools, self._pooled_at = self._work_out(_wall_ms()), time.monotonic()
        return self._pools

    def _work_out(self, now_ms: int) -> dict[str, int]:
        functions = self._deployed.functions
        layered = {kinds_for(function, by_memory=True)[0] for function in functions if function.layer}
        ready = {kind for kind in layered if SlotKind.parse(kind).layer in self._ready}
        pools = desired_pools(functions, self._use.last_ms, ready, self._policy, by_memory=True)
        recent = [function for function in functions if now_ms - function.last_modified_ms < RECENT_MS]
        fresh = {DEFAULT_KIND, *(kind for function in recent for kind in kinds_for(function, by_memory=True))}
        return sized_by_use(pools, self._use, fresh, self._cap, now_ms)

    def used(self, kind: SlotKind) -> None:
        """A slot of this kind was taken just now."""
        self._use.note(str(kind), _wall_ms())
        self._pools = None

    def wanted(self, kind: str) -> None:
        """Somebody waits for slots of this kind."""
        self._use.note(kind, _wall_ms(), 0)

    async def wish(self, kind: SlotKind) -> Mapping[str, Any] | None:
        """What an agent of this kind is to fetch and import ahead of time; None when its layer is not built."""
        mine = (each for each in self._deployed.functions if each.layer and each.layer.hash == kind.layer)
        function = next(mine, None)
        if function is None or kind.layer not in self._ready:
            return None
        try:
            return {**await self._parts(function), "modules": list(self._ready[kind.layer])}
        except PlatformError as trouble:
            log.warning("a layer cannot be preloaded", extra={"layer": kind.layer, "reason": str(trouble)})
            return None

    async def follow(self, changed: Callable[[], None]) -> None:
        """Knows the functions as the registry has them; while it is away they stay as they were. Runs for ever."""

        def news() -> None:
            self._pools = None
            changed()

        await self._deployed.follow(news)

    async def look_up_layers(self) -> None:
        """Reads what nobody announces: layers that were built, and the modules that slots of them have imported."""
        if time.monotonic() - self._looked_at < LAYERS_S:
            return
        self._looked_at = time.monotonic()
        told: dict[str, list[str]] = {}
        for function in self._deployed.functions:
            if function.layer:
                told.setdefault(function.layer.hash, []).extend(function.preload)
        try:
            found = {layer: await self._modules(layer, modules) for layer, modules in told.items()}
        except PlatformError:
            return  # as it was
        ready = {layer: modules for layer, modules in found.items() if modules is not None}
        if ready != self._ready:
            self._ready, self._pools = ready, None

    async def _modules(self, layer: str, told: list[str]) -> tuple[str, ...] | None:
        intent = await self._layers.read(layer)
        if intent is None or intent.phase is not LayerPhase.READY:
            return None
        return tuple(dict.fromkeys([*told, *intent.preload]))


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
