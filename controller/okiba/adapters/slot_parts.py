"""Where a slot finds its code, its layers and its packages: what `specialize` and `preload` tell it.

    folder     slots and platform share the state folder: paths in it
    store      they share nothing: addresses in the object store with digests; packages are in the slots' image

No call to anyone is on a cold start's way: addresses are signed here, and layers' digests are known from before.
"""

from __future__ import annotations

import asyncio
import sysconfig
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

from okiba.adapters.s3_store import BUCKET, code_key, layer_key
from okiba.core.errors import PlatformError, SlotLost
from okiba.core.function import Function
from okiba.core.layer import LayerArchive, base_layer, layer_folder, layer_packages
from okiba.core.presign import Signer
from okiba.settings import Settings

PACKAGES_IN_IMAGE: Final = "/opt/okiba/packages"
"""Where a slot's image has boto3 and minio (`core.layer.BASE_REQUIREMENTS`): nothing is built or fetched for it."""

EXPIRES_S: Final = 600
"""How long an address is good: a slot uses it at once, and tries for at most 10 s (INIT_MS)."""

REREAD_S: Final = 60.0
"""How old a layer's digest may be before it is read again, beside the calls that use it meanwhile: it changes only
when the layer was lost and built anew."""


class SlotParts(Protocol):
    """Tells slots where their parts are."""

    async def of(self, function: Function) -> dict[str, Any]:
        """`code`, `layers` and `packages` of an order.

        Raises:
            PlatformError: It is not known where they are, just now.
        """
        ...

    async def ahead(self, function: Function) -> dict[str, Any]:
        """`layers` and `packages` alone, the same: what a slot can have before it is the function's."""
        ...


class FolderParts:
    """Everything lies in folders that slots share with the platform."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    async def of(self, function: Function) -> dict[str, Any]:
        """See `SlotParts`."""
        code = {"path": str(self._state_dir / "code" / function.code_sha256)}
        return {"code": code, **await self.ahead(function)}

    async def ahead(self, function: Function) -> dict[str, Any]:
        """See `SlotParts`."""
        base = base_layer(function.runtime, sysconfig.get_platform())
        folders = [self._state_dir / layer_folder(function.layer.hash)] if function.layer else []
        return {
            "layers": [{"path": str(folder)} for folder in folders],
            "packages": [str(self._state_dir / layer_packages(base.hash))],
        }


class StoredParts:
    """Code and layers lie in the object store, as zip archives.

    Args:
        archive: What is known of a layer's archive; None while it is not there.
        packages: Folder in the slots' image.
        now_s: The wall clock.
    """

    def __init__(
        self,
        signer: Signer,
        archive: Callable[[str], Awaitable[LayerArchive | None]],
        packages: str = PACKAGES_IN_IMAGE,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._signer, self._packages, self._now_s = signer, packages, now_s
        self._archives = Archives(archive)

    async def of(self, function: Function) -> dict[str, Any]:
        """See `SlotParts`."""
        sha256 = function.code_sha256
        code = {"url": self._location(code_key(sha256)), "sha256": sha256, "size": function.code_bytes}
        return {"code": code, **await self.ahead(function)}

    async def ahead(self, function: Function) -> dict[str, Any]:
        """See `SlotParts`."""
        layers = [await self._layer(function.layer.hash)] if function.layer else []
        return {"layers": layers, "packages": [self._packages]}

    async def _layer(self, layer_hash: str) -> dict[str, Any]:
        archive = await self._archives.read(layer_hash)
        location = self._location(layer_key(layer_hash))
        return {"url": location, "sha256": archive.sha256, "size": archive.size, "id": layer_hash}

    def _location(self, key: str) -> str:
        return self._signer.location(f"{BUCKET}/{key}", self._now_s(), EXPIRES_S)


class Archives:
    """Layers' digests and sizes, read once and then kept: a cold start asks nobody."""

    def __init__(self, read: Callable[[str], Awaitable[LayerArchive | None]]) -> None:
        self._read = read
        self._known: dict[str, tuple[LayerArchive, float]] = {}
        self._rereading: dict[str, asyncio.Task[None]] = {}

    async def read(self, layer_hash: str) -> LayerArchive:
        """The layer's archive.

        Raises:
            SlotLost: There is none.
            StoreUnavailable: Nobody knows just now.
        """
        known = self._known.get(layer_hash)
        if known is None:
            return await self._ask(layer_hash)
        archive, read_at = known
        if time.monotonic() - read_at > REREAD_S and layer_hash not in self._rereading:
            task = asyncio.create_task(self._reread(layer_hash), name=f"layer {layer_hash}")
            self._rereading[layer_hash] = task
            task.add_done_callback(lambda _: self._rereading.pop(layer_hash, None))
        return archive

    async def _ask(self, layer_hash: str) -> LayerArchive:
        archive = await self._read(layer_hash)
        if archive is None:
            self._known.pop(layer_hash, None)
            raise SlotLost(f"the layer {layer_hash} is not in the object store")
        self._known[layer_hash] = (archive, time.monotonic())
        return archive

    async def _reread(self, layer_hash: str) -> None:
        try:
            await self._ask(layer_hash)
        except PlatformError:  # as it was; asked again by the next slot
            return


def parts_for(settings: Settings, archive: Callable[[str], Awaitable[LayerArchive | None]]) -> SlotParts:
    """The way in which slots of this installation get their parts."""
    if settings.code_from == "folder":
        return FolderParts(settings.state_dir)
    endpoint = settings.s3_function_endpoint or settings.s3_endpoint
    return StoredParts(Signer(endpoint, settings.s3_access_key, settings.s3_secret_key, settings.region), archive)
