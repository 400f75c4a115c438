"""The user's cache of layers, outside of any state folder: bounded by age and size, those used last kept.

    ~/.cache/okiba/layers/HASH      a layer; its folder's mtime says when it was last used

Nothing breaks when a layer is missing here: it is built once more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 5_000_000_000
UNUSED_MS: Final = 30 * 86_400_000
LEFTOVER_MS: Final = 3_600_000
"""What a builder that was killed had begun to copy; copying takes seconds."""


class LayerCache:
    """One user's cache, as the installation on one state folder keeps it.

    Args:
        folder: Where layers are kept; it need not exist.
        max_bytes: What all of them may take on disk.
        unused_ms: How long one may lie there unused.
    """

    def __init__(self, folder: Path, state_dir: Path, max_bytes: int = MAX_BYTES, unused_ms: int = UNUSED_MS) -> None:
        self._folder = folder
        self._layers = state_dir / "layers"
        self._max_bytes = max_bytes
        self._unused_ms = unused_ms

    def trim(self, now_ms: int) -> None:
        """Removes what was not used for long, and then those unused longest until the rest fits."""
        if not self._folder.is_dir():
            return
        self._mark_used(now_ms)
        latest_first = sorted(self._kept(), key=_used_ms, reverse=True)
        total = 0
        for layer in latest_first:
            total += _disk_bytes(layer)
            if total > self._max_bytes or now_ms - _used_ms(layer) >= self._unused_ms:
                _remove(layer)
        for leftover in self._folder.glob(".*"):
            if now_ms - _used_ms(leftover) >= LEFTOVER_MS:
                shutil.rmtree(leftover, ignore_errors=True)

    def _kept(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")]

    def _mark_used(self, now_ms: int) -> None:
        """Whatever this installation has is in use."""
        for layer in self._kept():
            if (self._layers / layer.name).is_dir():
                os.utime(layer, (now_ms / 1000, now_ms / 1000))


def _remove(layer: Path) -> None:
    """Renamed first: a layer is in the cache if and only if it is whole."""
    doomed = layer.with_name(f".{layer.name}.doomed")
    shutil.rmtree(doomed, ignore_errors=True)
    layer.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _used_ms(path: Path) -> float:
    return path.stat().st_mtime * 1000


def _disk_bytes(folder: Path) -> int:
    return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in _entries(folder))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        for entry in found:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))
