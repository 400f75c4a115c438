"""Layers on this machine (`ports.LayerShelf`): their folders, their intents, and the jobs that build them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from okiba.adapters.celery_jobs import JobSender
from okiba.adapters.layer_retention import LayerRetention
from okiba.adapters.redis_layers import RedisLayers
from okiba.adapters.s3_store import S3Store
from okiba.core.function import Layer
from okiba.core.layer import LayerIntent, layer_packages

KEPT_MS: Final = 7 * 86_400_000


class LayerShelf:
    """One state folder's layers.

    Args:
        kept_ms: How long a layer stays that no function needs.
        store: Where slots that share no folder fetch layers from.
    """

    def __init__(
        self,
        state_dir: Path,
        layers: RedisLayers,
        jobs: JobSender,
        kept_ms: int = KEPT_MS,
        store: S3Store | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._retention = LayerRetention(state_dir, layers, kept_ms, store)
        self._layers, self._jobs = layers, jobs

    async def is_built(self, layer_hash: str) -> bool:
        """Whether the layer lies in its folder, whole."""
        return (self._state_dir / layer_packages(layer_hash)).is_dir()

    async def read(self, layer_hash: str) -> LayerIntent | None:
        """What is known of building it."""
        return await self._layers.read(layer_hash)

    async def want(self, layer: Layer, runtime: str, now_ms: int) -> None:
        """The intent is stored when this returns, and a worker has been told of it if the broker was there."""
        await self._layers.want(layer, runtime, now_ms)
        await asyncio.to_thread(self._jobs.build_layer, layer.hash)

    async def sweep(self, needed: Callable[[], Collection[str]], now_ms: int) -> None:
        """Layers that nothing has needed for long are gone."""
        await self._retention.sweep(needed, now_ms)
