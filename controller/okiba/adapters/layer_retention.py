"""Layers that no function has needed for a while are removed: folder, copy in the object store, record.

    okiba:layer:HASH  used_ms     when a function was last seen to need it, written once an hour
    state/layers/HASH             there if and only if it is whole, so it is renamed before it is removed

The user's cache (`layer_cache`) keeps its own copy, from which a layer that is needed again is made in a moment.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from okiba.adapters.redis_layers import RedisLayers
from okiba.adapters.s3_store import S3Store

log = logging.getLogger(__name__)

EVERY_MS: Final = 3_600_000
_DOOMED: Final = ".doomed"


class LayerRetention:
    """One installation's.

    Args:
        kept_ms: How long a layer that nothing needs stays.
        store: Where slots that share no folder fetch layers from.
    """

    def __init__(self, state_dir: Path, layers: RedisLayers, kept_ms: int, store: S3Store | None = None) -> None:
        self._folder = state_dir / "layers"
        self._layers = layers
        self._kept_ms = kept_ms
        self._store = store
        self._next_ms = 0

    async def sweep(self, needed: Callable[[], Collection[str]], now_ms: int) -> None:
        """Notes which layers are needed, and removes those that were not for too long; at most once an hour.

        Args:
            needed: Asked for the hashes again right before anything is removed.

        Raises:
            StoreUnavailable: To be called again.
        """
        if now_ms < self._next_ms:
            return
        known = {*await self._layers.known(), *self._folders()}
        for layer_hash in sorted(known & set(needed())):
            await self._layers.used(layer_hash, now_ms)
        unused = [layer_hash for layer_hash in sorted(known) if await self._is_unused(layer_hash, now_ms)]
        await self._remove(self._taken_away(unused, needed()))
        self._next_ms = now_ms + EVERY_MS

    async def _is_unused(self, layer_hash: str, now_ms: int) -> bool:
        used_ms = await self._layers.used_ms(layer_hash)
        folder = self._folder / layer_hash
        if used_ms is None:  # its record is lost, with all of Redis perhaps
            used_ms = int(folder.stat().st_mtime * 1000) if folder.is_dir() else 0
        return now_ms - used_ms >= self._kept_ms

    def _taken_away(self, unused: Iterable[str], needed: Collection[str]) -> list[str]:
        """Those of them that nothing needs; their folders are out of the way.

        Nothing is awaited from here back to the question what is needed: a function that comes now finds its layer
        missing, and has it built.
        """
        doomed = [layer_hash for layer_hash in unused if layer_hash not in needed]
        for layer_hash in doomed:
            folder = self._folder / layer_hash
            if folder.is_dir():
                folder.rename(self._folder / f".{layer_hash}{_DOOMED}")
        return doomed

    async def _remove(self, doomed: Collection[str]) -> None:
        for layer_hash in doomed:
            if self._store is not None:
                await asyncio.to_thread(self._store.delete, f"layers/{layer_hash}.zip")
            await self._layers.forget(layer_hash)
            log.info("unused layer removed", extra={"layer": layer_hash})
        for folder in self._folder.glob(f".*{_DOOMED}"):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _folders(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return [path.name for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
