"""What slots this machine will need: follows the registry, layers on disk, and the modules that slots have learned."""

from __future__ import annotations

import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from okiba.adapters.redis_layers import RedisLayers
from okiba.core.errors import PlatformError
from okiba.core.layer import BASE_PRELOAD, base_layer, layer_packages
from okiba.core.pools import PoolPolicy, desired_pools, split_kind
from okiba.flow.deployed import Deployed
from okiba.ports import Registry
from okiba.settings import Settings

DEFAULT_RUNTIME: Final = f"python{sys.version_info[0]}.{sys.version_info[1]}"
"""Kept warm before anything is deployed: this machine surely has it."""


class Needs:
    """Knows, from what is deployed and used, which pools should have how many warm slots.

    Args:
        changed: Called whenever the answer may be another one.
    """

    def __init__(
        self, settings: Settings, registry: Registry, layers: RedisLayers, changed: Callable[[], None]
    ) -> None:
        self._state_dir = settings.state_dir
        self._deployed = Deployed(registry)
        self._layers = layers
        self._changed = changed
        self._idle_ms = settings.idle_slot_ms
        self._policy = PoolPolicy(DEFAULT_RUNTIME, settings.warm_slots, settings.warm_layer_slots, settings.warm_layers)
        self._preloads: dict[str, tuple[str, ...]] = {}
        self._used_ms: dict[str, int] = {}

    def pools(self) -> dict[str, int]:
        """Warm slots wanted, by kind."""
        functions = self._deployed.functions
        ready = {function.kind for function in functions if function.layer and self.built(function.kind)}
        return desired_pools(functions, self._used_ms, ready, self._policy)

    def built(self, kind: str) -> bool:
        """Whether slots of this kind can be made: its layer, if it has one, is there."""
        layer = split_kind(kind)[1]
        return not layer or (self._state_dir / layer_packages(layer)).is_dir()

    def import_path(self, kind: str) -> tuple[Path, ...]:
        """Where modules to preload come from: the layer, then what every slot has."""
        runtime, layer = split_kind(kind)
        base = base_layer(runtime, sysconfig.get_platform()).hash
        return tuple(self._state_dir / layer_packages(name) for name in (layer, base) if name)

    def preload(self, kind: str) -> tuple[str, ...] | None:
        """Modules that slots of this kind should import ahead of time; None before that has been looked up."""
        return self._preloads.get(kind, None if split_kind(kind)[1] else ())

    def used(self, kind: str) -> None:
        """Slots of this kind were asked for just now."""
        self._used_ms[kind] = time.time_ns() // 1_000_000
        self._changed()

    def idle(self, kind: str) -> bool:
        """Whether nobody has asked for slots of this kind for as long as an idle slot is kept."""
        now_ms = time.time_ns() // 1_000_000
        return now_ms - self._used_ms.get(kind, 0) > self._idle_ms

    async def follow(self) -> None:
        """Knows the functions as the registry has them; while it is away they stay as they were. Runs for ever."""
        await self._deployed.follow(self._changed)

    async def look_up_preloads(self) -> None:
        """Reads what nobody announces: the modules that slots of the layers in use have imported."""
        for kind in self.pools():
            await self._look_up(kind, *split_kind(kind))

    async def _look_up(self, kind: str, runtime: str, layer: str) -> None:
        if not layer:
            base = base_layer(runtime, sysconfig.get_platform()).hash
            self._preload_now(kind, BASE_PRELOAD if (self._state_dir / layer_packages(base)).is_dir() else ())
            return
        told = [module for function in self._deployed.functions if function.kind == kind for module in function.preload]
        try:
            modules = tuple(dict.fromkeys([*told, *await self._layers.preload(layer)]))
        except PlatformError:
            return  # as it was
        self._preload_now(kind, modules)

    def _preload_now(self, kind: str, modules: tuple[str, ...]) -> None:
        if self._preloads.get(kind) != modules:
            self._preloads[kind] = modules
            self._changed()
