"""Layers where slots fetch them for themselves: a layer is there when the object store has it."""

from __future__ import annotations

import asyncio
import sysconfig
import time
from pathlib import Path
from typing import Final

from okiba.adapters.celery_jobs import JobSender
from okiba.adapters.layer_shelf import LayerShelf
from okiba.adapters.local_python import SUPPORTED
from okiba.adapters.redis_layers import RedisLayers
from okiba.adapters.s3_store import S3Store, layer_key
from okiba.core.layer import LayerPhase, base_layer

BELIEVED_S: Final = 60.0
"""How long a look into the object store is good for: a thousand functions may share one layer."""


class StoredLayers(LayerShelf):
    """`ports.LayerShelf` over the object store; what every slot has beside its layers is in its image."""

    def __init__(self, state_dir: Path, layers: RedisLayers, jobs: JobSender, kept_ms: int, store: S3Store) -> None:
        super().__init__(state_dir, layers, jobs, kept_ms, store)
        self._objects = store
        self._seen: dict[str, float] = {}
        self._in_image = {base_layer(runtime, sysconfig.get_platform()).hash for runtime in SUPPORTED}

    async def is_built(self, layer_hash: str) -> bool:
        """Whether the object store has exactly the archive that the layer's record tells slots of.

        Raises:
            StoreUnavailable: Nobody knows just now.
        """
        if layer_hash in self._in_image or time.monotonic() - self._seen.get(layer_hash, -BELIEVED_S) < BELIEVED_S:
            return True
        intent = await self.read(layer_hash)
        if intent is None or intent.phase is not LayerPhase.READY or intent.archive is None:
            return False
        if await asyncio.to_thread(self._objects.digest, layer_key(layer_hash)) != intent.archive.sha256:
            return False
        self._seen[layer_hash] = time.monotonic()
        return True
