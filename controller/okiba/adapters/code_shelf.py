"""Deployed packages on this machine: fetched from the object store, unpacked once, swept when nothing needs them.

state/code/SHA256/      a package unpacked; there if and only if it is whole
state/packages/         zips on their way
okiba/code/SHA256.zip   in the object store, put there by the gateway
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

from okiba.adapters import package_child
from okiba.adapters.s3_admin import S3Admin
from okiba.adapters.s3_store import BUCKET, S3Store
from okiba.core.errors import InvalidParameter, NotFound

KEPT_MS: Final = 3_600_000
"""What nothing refers to any more stays for an hour: calls of up to 15 minutes may still run in it, and a deployment
of the same package may be on its way, finding it stored."""

_PREFIX: Final = "code/"
FETCH: Final = "fetch-"
"""How folders begin in which packages arrive."""


class CodeShelf:
    """`ports.CodeShelf` over one state folder."""

    def __init__(self, state_dir: Path, store: S3Store, admin: S3Admin) -> None:
        self._code = state_dir / "code"
        self._packages = state_dir / "packages"
        self._store, self._admin = store, admin
        self._unneeded: dict[str, int] = {}  # since when nothing refers to a package

    async def ensure(self, sha256: str) -> None:
        """The package lies unpacked in its folder.

        Raises:
            InvalidParameter: It is not stored, or cannot be unpacked.
        """
        self._unneeded.pop(sha256, None)
        if (self._code / sha256).is_dir():
            return
        for folder in (self._code, self._packages):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=FETCH, dir=self._packages) as beside:
            package = Path(beside) / f"{sha256}.zip"
            try:
                await asyncio.to_thread(self._store.get, f"{_PREFIX}{sha256}.zip", package)
            except NotFound as error:
                raise self._absent(sha256) from error
            await package_child.unpack(package, self._code, sha256)

    def _absent(self, sha256: str) -> InvalidParameter:
        return InvalidParameter(f"the package {sha256} is not stored any more: deploy it again")

    async def sweep(self, referenced: Collection[str], now_ms: int) -> None:
        """Packages that nothing has referred to for an hour are gone, here and from the object store."""
        await asyncio.to_thread(self._sweep, frozenset(referenced), now_ms)

    def _sweep(self, referenced: frozenset[str], now_ms: int) -> None:
        stored = {_digest(key): modified_ms for key, modified_ms in self._stored()}
        unpacked = {folder.name for folder in self._code.iterdir()} if self._code.is_dir() else set()
        unneeded = (stored.keys() | unpacked) - referenced
        self._unneeded = {sha256: self._unneeded.get(sha256, now_ms) for sha256 in unneeded}
        for sha256, since_ms in list(self._unneeded.items()):
            if now_ms - max(since_ms, stored.get(sha256, 0)) >= KEPT_MS:
                self._remove(sha256)
        for folder in self._packages.glob(f"{FETCH}*"):  # of a controller that was killed
            if now_ms - folder.stat().st_mtime * 1000 >= KEPT_MS:
                shutil.rmtree(folder, ignore_errors=True)

    def _stored(self) -> list[tuple[str, int]]:
        try:
            return self._admin.stored(BUCKET, _PREFIX)
        except NotFound:  # nothing was ever deployed
            return []

    def _remove(self, sha256: str) -> None:
        self._store.delete(f"{_PREFIX}{sha256}.zip")
        # Renamed first: a folder is there if and only if it is whole.
        folder, doomed = self._code / sha256, self._code / f".{sha256}.doomed"
        if folder.is_dir():
            folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _digest(key: str) -> str:
    return key.removeprefix(_PREFIX).removesuffix(".zip")
