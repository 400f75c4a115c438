"""The packages of `Function` objects: inline text, a ConfigMap's files or a zip in a bucket, stored by content."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from okiba.adapters import package_child
from okiba.adapters.kube_functions import ConfigMapCode, Declaration, InlineCode, StoredCode
from okiba.adapters.s3_store import MAX_PACKAGE, S3Store, code_key
from okiba.apps.cli.packing import REQUIREMENTS, packed_files
from okiba.core.errors import InvalidParameter, NotFound
from okiba.core.s3_policy import PLATFORM_BUCKET

ConfigMaps = Callable[[str], Awaitable[Mapping[str, Any] | None]]


@dataclass(frozen=True, slots=True)
class Packed:
    """A package that is stored.

    Args:
        source: Where it was read, as the object's status says it.
        requirements: Its requirements.txt, as far as the package was put together here.
    """

    sha256: str
    size: int
    source: str
    requirements: str = ""


class Packages:
    """Reads and stores them.

    Args:
        config_maps: Reads one by its name; None when there is none.
    """

    def __init__(self, store: S3Store, config_maps: ConfigMaps) -> None:
        self._store, self._config_maps = store, config_maps

    async def of(self, declared: Declaration, stored: str) -> Packed:
        """The object's package, stored when this returns.

        Args:
            stored: Digest of the package that the function has, and which therefore is stored; empty without one.

        Raises:
            InvalidParameter: It cannot be had, or is refused.
            StoreUnavailable: The object store is away.
        """
        match declared.code:
            case InlineCode(text):
                return await self._put_together({"index.py": text.encode()}, "inline", stored)
            case ConfigMapCode(name):
                return await self._put_together(await self._files(name), f"configMap/{name}", stored)
            case StoredCode() as code:
                return _known(declared, code) or await self._fetched(code)

    async def _files(self, name: str) -> dict[str, bytes]:
        document = await self._config_maps(name)
        if document is None:
            raise NotFound(f"there is no ConfigMap {name} in the function's namespace")
        texts = {key: text.encode() for key, text in (document.get("data") or {}).items()}
        try:
            binaries = {key: base64.b64decode(text) for key, text in (document.get("binaryData") or {}).items()}
        except ValueError as error:
            raise InvalidParameter(f"ConfigMap {name}: binaryData is not base64: {error}") from error
        if not texts and not binaries:
            raise InvalidParameter(f"ConfigMap {name} has no files in it")
        return {**texts, **binaries}

    async def _put_together(self, files: Mapping[str, bytes], source: str, stored: str) -> Packed:
        package = packed_files(files)
        sha256 = hashlib.sha256(package.zipped).hexdigest()
        if sha256 != stored:
            with tempfile.TemporaryDirectory(prefix="package-") as folder:
                path = Path(folder) / "package.zip"
                path.write_bytes(package.zipped)
                await asyncio.to_thread(self._store.put, code_key(sha256), path)
        requirements = files.get(REQUIREMENTS, b"").decode(errors="replace")
        return Packed(sha256, len(package.zipped), source, requirements)

    async def _fetched(self, code: StoredCode) -> Packed:
        if code.bucket == PLATFORM_BUCKET:
            raise InvalidParameter(f"bucket {code.bucket} is the platform's own; no function's code is taken from it")
        with tempfile.TemporaryDirectory(prefix="package-") as name:
            folder = Path(name)
            fetched = folder / "fetched.zip"
            try:
                place = (code.bucket, code.key, code.version, fetched, MAX_PACKAGE)
                await asyncio.to_thread(self._store.fetch, *place)
            except NotFound as error:
                raise NotFound(f"{code.source} does not exist") from error
            package = await package_child.read_zip(fetched, folder)
            zip_file = folder / f"{package.sha256}.zip"
            await asyncio.to_thread(self._store.put, code_key(package.sha256), zip_file)
            return Packed(package.sha256, package.packed_bytes, code.source)


def _known(declared: Declaration, code: StoredCode) -> Packed | None:
    """What an earlier look stored for this very generation of the object."""
    status, known = declared.status, declared.status.get("code") or {}
    if status.get("observedGeneration") != declared.generation or known.get("source") != code.source:
        return None
    return Packed(known["sha256"], int(known["bytes"]), code.source) if known.get("sha256") else None
