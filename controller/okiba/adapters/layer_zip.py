"""A layer as one zip archive: the same bytes for the same files, whenever and wherever it is packed.

Modules are compiled first, to files that are valid whatever time their source has: what a slot unpacks is new, and
Python would compile all of it again at each cold start.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from okiba.core.errors import InvalidParameter, PlatformError
from okiba.core.layer import LayerArchive

MAX_UNPACKED: Final = 1024 * 1024 * 1024
MAX_ENTRIES: Final = 65_000
MAX_PACKED: Final = 512 * 1024 * 1024
"""What a slot takes (runtime/PROTOCOL.md)."""

COMPILE_S: Final = 300.0
"""Some layers have thousands of modules."""

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_PIECE: Final = 1024 * 1024


def compile_modules(folder: Path, python: Path) -> None:
    """Every module in the folder has its compiled twin; what cannot be compiled is left to whoever imports it.

    Args:
        python: Interpreter of the Python version that will import them.
    """
    kind = ["-q", "-q", "-f", "--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", "/opt"]
    command = [str(python), "-S", "-s", "-X", "utf8", "-m", "compileall", *kind, str(folder)]
    # From elsewhere, since the folder it runs in is where Python looks for modules first. With a seed, since the order
    # of a set's elements is part of a compiled module.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONHASHSEED": "0"}
    try:
        subprocess.run(command, cwd="/", env=environment, capture_output=True, timeout=COMPILE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PlatformError(f"compiling the layer's modules took over {COMPILE_S:.0f} s") from error


def pack(folder: Path, archive: Path) -> LayerArchive:
    """The folder's content is in the archive when this returns.

    Raises:
        InvalidParameter: It is more than a slot takes, or has a link in it that leads outside.
    """
    files = list(_files(folder))
    if len(files) > MAX_ENTRIES:
        raise InvalidParameter(f"requirements: {len(files)} files, at most {MAX_ENTRIES} are allowed")
    unpacked = sum(path.stat().st_size for path in files)
    if unpacked > MAX_UNPACKED:
        raise InvalidParameter(f"requirements: {unpacked} bytes installed, at most {MAX_UNPACKED} are allowed")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files:
            _add(packed, path, str(path.relative_to(folder)))
    size = archive.stat().st_size
    if size > MAX_PACKED:
        raise InvalidParameter(f"requirements: {size} bytes packed, at most {MAX_PACKED} are allowed")
    with archive.open("rb") as file:
        return LayerArchive(hashlib.file_digest(file, "sha256").hexdigest(), size)


def _files(folder: Path) -> Iterator[Path]:
    """Files by their names; a link counts as what it leads to."""
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise InvalidParameter(f"requirements: {path.relative_to(folder)} is a link that leads out of the layer")
        if path.is_file():
            yield path


def _add(packed: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, whose modes these are
    executable = path.stat().st_mode & stat.S_IXUSR
    entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    with path.open("rb") as source, packed.open(entry, "w") as target:
        shutil.copyfileobj(source, target, _PIECE)
