"""Deployed packages where slots fetch them for themselves: nothing is unpacked on the platform's side."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from okiba.adapters import package_child
from okiba.adapters.code_shelf import FETCH, CodeShelf
from okiba.adapters.s3_admin import S3Admin
from okiba.adapters.s3_store import S3Store, code_key
from okiba.core.errors import InvalidParameter, NotFound


class StoredCode(CodeShelf):
    """`ports.CodeShelf` over the object store alone: a package is ready when it is stored, and can be read."""

    def __init__(self, state_dir: Path, store: S3Store, admin: S3Admin) -> None:
        super().__init__(state_dir, store, admin)
        self._readable: set[str] = set()

    async def ensure(self, sha256: str) -> None:
        """The package can be fetched by its content's hash, and a child process has read it whole.

        It is read once in this process's life: what is stored under a digest was checked before it was stored, and
        slots compare the digest. After that, being there is enough.

        Raises:
            InvalidParameter: It is not stored, or is damaged.
        """
        self._unneeded.pop(sha256, None)
        if sha256 not in self._readable:
            await self._read(sha256)
            self._readable.add(sha256)
        elif not await asyncio.to_thread(self._store.exists, code_key(sha256)):
            raise self._absent(sha256)

    async def _read(self, sha256: str) -> None:
        self._packages.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=FETCH, dir=self._packages) as beside:
            package = Path(beside) / "package.zip"
            try:
                await asyncio.to_thread(self._store.get, code_key(sha256), package)
            except NotFound as error:
                raise self._absent(sha256) from error
            found = await package_child.read_zip(package, Path(beside))
        if found.sha256 != sha256:
            raise InvalidParameter(f"the package stored as {sha256} is damaged (it is {found.sha256}): deploy it again")
