"""Layers on their way into the object store, where slots that share no folder with their builder fetch them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from okiba.adapters.layer_zip import compile_modules, pack
from okiba.adapters.s3_store import S3Store, layer_key
from okiba.core.errors import InvalidParameter
from okiba.core.layer import LayerArchive, LayerIntent, layer_folder

KEPT_MS: Final = 86_400_000
"""How long a built layer stays in its builder's folder, from which it is packed again without pip."""

_PACKING: Final = ".packing-"


class LayerStore:
    """Where built layers go.

    Args:
        state_dir: Folder that layers are built in.
        interpreter: The Python for a runtime's name; None where this machine has none.
    """

    def __init__(self, state_dir: Path, store: S3Store, interpreter: Callable[[str], Path | None]) -> None:
        self._state_dir, self._store, self._interpreter = state_dir, store, interpreter

    def ship(self, intent: LayerIntent) -> LayerArchive:
        """The layer, which has been built, is in the object store when this returns.

        Raises:
            InvalidParameter: It is more than a slot takes.
            StoreUnavailable: To be tried again.
        """
        folder = self._state_dir / layer_folder(intent.layer.hash)
        python = self._interpreter(intent.runtime)
        if python is None:
            raise InvalidParameter(f"Runtime {intent.runtime} has no interpreter on this machine")
        with tempfile.TemporaryDirectory(prefix=_PACKING, dir=folder.parent) as beside:
            compile_modules(folder, python)
            packed = Path(beside) / "layer.zip"
            archive = pack(folder, packed)
            self._store.replace(layer_key(intent.layer.hash), packed, archive.sha256)
        return archive

    def trim(self, now_ms: int) -> None:
        """Folders of layers that were shipped long ago are gone, and what a builder that was killed left."""
        for folder in (self._state_dir / "layers").glob("*"):
            if folder.is_dir() and now_ms - folder.stat().st_mtime * 1000 >= KEPT_MS:
                # Renamed first: a layer's folder is there if and only if it is whole.
                doomed = folder.with_name(f".doomed-{folder.name}")
                folder.rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)
