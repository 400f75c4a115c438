"""Deployment packages: hostile zip archives, checked whole before one byte of them is written.

What is wrong is refused, never repaired: an archive that needs repairing was made by an enemy or by a broken tool,
and `../../evil` quietly unpacked as `evil` helps neither. Both functions are meant for a child process with limits
of its own (`okiba.apps.package`), since zlib sees bytes of strangers here.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from okiba.adapters.zip_directory import MAX_ENTRIES, STORED, BrokenZip, Entry, entries, kind_of
from okiba.core.errors import InvalidParameter, PlatformError

MAX_UNZIPPED: Final = 262_144_000  # Lambda's 250 MB
MAX_RATIO: Final = 100
# A package so small harms nobody however well it packs; real ones full of zeros or tables reach ratios of 300.
RATIO_FLOOR: Final = 16 * 1024 * 1024
MAX_PATH: Final = 1024
MAX_COMPONENT: Final = 255

_CHUNK = 1024 * 1024
_FEED = 64 * 1024  # zlib copies what it could not take yet, so it is fed in small bites
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Package:
    """A package that may be stored: its zip's digest (hex), the zip's size, and what it holds."""

    sha256: str
    packed_bytes: int
    unzipped_bytes: int
    files: int


def check(path: Path) -> Package:
    """The package in a zip file, every byte of which has been inflated, counted and compared with its CRC.

    Raises:
        InvalidParameter: It is refused; the message names the entry and the reason.
    """
    with _mapped(path) as archive:
        found = _checked_entries(archive)
        for entry in found:
            for _ in _contents(archive, entry):
                pass
        return Package(
            sha256=hashlib.sha256(archive).hexdigest(),
            packed_bytes=len(archive),
            unzipped_bytes=sum(entry.size for entry in found),
            files=sum(not entry.is_folder for entry in found),
        )


def extract(path: Path, into: Path, sha256: str) -> Path:
    """The folder `into`/<sha256> with the package's content; appears complete or not at all.

    Raises:
        PlatformError: The zip is not the one that was stored under this digest.
        InvalidParameter: As `check`.
    """
    target = into / sha256
    if target.is_dir():
        return target
    with _mapped(path) as archive:
        seen = hashlib.sha256(archive).hexdigest()
        if seen != sha256:
            raise PlatformError(f"package {path.name} is damaged: its SHA-256 is {seen}, expected {sha256}")
        _write_beside(archive, _checked_entries(archive), target)
    return target


def _checked_entries(archive: memoryview) -> list[Entry]:
    found = entries(archive)
    if not any(not entry.is_folder for entry in found):
        raise InvalidParameter("Uploaded file must be a non-empty zip")
    for entry in found:
        _check_entry(entry)
    _check_collisions(entry.name for entry in found)
    _check_sizes(sum(entry.size for entry in found), len(archive))
    return found


def _check_sizes(unzipped: int, packed: int) -> None:
    if unzipped > MAX_UNZIPPED:
        raise InvalidParameter(f"Unzipped size must be smaller than {MAX_UNZIPPED} bytes, got {unzipped}")
    if unzipped > RATIO_FLOOR and unzipped > MAX_RATIO * packed:
        raise BrokenZip(f"{packed} bytes claim to unpack to {unzipped}: more than {MAX_RATIO} times as much")


def _check_entry(entry: Entry) -> None:
    _check_path(entry.name)
    kind = kind_of(entry.mode)
    if kind:
        raise BrokenZip(f"{entry.name!r} is {kind}")
    if stat.S_ISDIR(entry.mode) and not entry.is_folder:
        raise BrokenZip(f"{entry.name!r} is a folder by its mode and a file by its name")
    if entry.is_folder and entry.size:
        raise BrokenZip(f"the folder {entry.name!r} has {entry.size} bytes of content")
    if not entry.is_folder and entry.mode & (stat.S_ISUID | stat.S_ISGID):
        raise BrokenZip(f"{entry.name!r} is setuid or setgid")


def _check_path(name: str) -> None:
    components = name.removesuffix("/").split("/")
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise BrokenZip(f"{name[:100]!r} is an absolute path")
    if "\\" in name or _CONTROL.search(name):
        raise BrokenZip(f"{name[:100]!r} has a backslash or a control character in it")
    if any(component in ("", ".", "..") for component in components):
        raise BrokenZip(f"{name[:100]!r} is not a plain path")
    longest = max(len(component.encode()) for component in components)
    if len(name.encode()) > MAX_PATH or longest > MAX_COMPONENT:
        raise BrokenZip(f"{name[:100]!r}… is longer than {MAX_PATH} bytes, or than {MAX_COMPONENT} between slashes")


def _check_collisions(names: Iterable[str]) -> None:
    """No two paths that some file system takes for one: equal but for case or Unicode form, or file and folder."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    told: set[str] = set()
    for name in names:
        if name in told:
            raise BrokenZip(f"{name!r} is in it twice")
        told.add(name)
        path = name.removesuffix("/")
        for folder in _ancestors(path, itself=name.endswith("/")):
            _claim(folders, folder)
        if not name.endswith("/"):
            _claim(files, path)
    if len(folders) > MAX_ENTRIES:
        raise BrokenZip(f"{len(folders)} folders, at most {MAX_ENTRIES} are allowed")
    both = files.keys() & folders.keys()
    if both:
        raise BrokenZip(f"{files[min(both)]!r} is both a file and a folder")


def _claim(claimed: dict[str, str], path: str) -> None:
    other = claimed.setdefault(_folded(path), path)
    if other != path:
        raise BrokenZip(f"{path!r} and {other!r} differ only by case or Unicode form")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _ancestors(path: str, *, itself: bool) -> Iterator[str]:
    if itself:
        yield path
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _contents(archive: memoryview, entry: Entry) -> Iterator[bytes]:
    """An entry's content in pieces; what does not inflate to exactly the claimed size and CRC is refused."""
    size = crc = 0
    packed = archive[entry.data : entry.data + entry.packed]
    pieces = _stored(packed) if entry.method == STORED else _inflated(packed, entry)
    for piece in pieces:
        size, crc = size + len(piece), zlib.crc32(piece, crc)
        if size > entry.size:
            break
        yield piece
    if size != entry.size:
        seen = f"over {entry.size}" if size > entry.size else str(size)
        raise BrokenZip(f"{entry.name!r} holds {seen} bytes and claims {entry.size}")
    if crc != entry.crc:
        raise BrokenZip(f"{entry.name!r} is damaged: CRC {crc:08x}, expected {entry.crc:08x}")


def _stored(packed: memoryview) -> Iterator[bytes]:
    for at in range(0, len(packed), _CHUNK):
        yield bytes(packed[at : at + _CHUNK])


def _inflated(packed: memoryview, entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    fed = 0
    try:
        while fed < len(packed) and not inflater.eof:
            waiting = bytes(packed[fed : fed + _FEED])
            fed += len(waiting)
            while piece := inflater.decompress(waiting, _CHUNK):
                yield piece
                waiting = inflater.unconsumed_tail
    except zlib.error as error:
        raise BrokenZip(f"{entry.name!r} does not inflate: {error}") from error
    if not inflater.eof or inflater.unused_data or fed < len(packed):
        raise BrokenZip(f"{entry.name!r} ends before, or behind, where the archive says")


def _write_beside(archive: memoryview, found: list[Entry], target: Path) -> None:
    """Writes into a new folder next to `target`, then renames; if another was faster, his stands."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:16]}.", dir=target.parent))
    try:
        _write(archive, found, folder)
        folder.chmod(0o755)
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(archive: memoryview, found: list[Entry], folder: Path) -> None:
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        made: set[str] = set()
        for entry in found:
            path = entry.name.removesuffix("/")
            for ancestor in reversed(list(_ancestors(path, itself=entry.is_folder))):
                if ancestor not in made:
                    os.mkdir(ancestor, 0o755, dir_fd=root)
                    made.add(ancestor)
            if not entry.is_folder:
                _write_file(archive, entry, root)
    finally:
        os.close(root)


def _write_file(archive: memoryview, entry: Entry, root: int) -> None:
    # There are no links in the folder to follow, since none are ever written; the flags make sure of it.
    mode = 0o755 if entry.mode & 0o111 else 0o644
    file = os.open(entry.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=root)
    with os.fdopen(file, "wb", buffering=0) as writer:
        for piece in _contents(archive, entry):
            writer.write(piece)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise InvalidParameter("Uploaded file must be a non-empty zip")
        # Unmapped when its last slice is gone: closing it by hand fails while a traceback still holds one.
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
