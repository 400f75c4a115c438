"""A checked archive becomes a folder. What is wrong is refused, never repaired; nothing outside the folder is touched.

Case and Unicode forms of names are not compared: Linux tells them apart, and packages whose names some other file
system would take for one are refused at deployment.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from okiba_runtime.archive import STORED, BadArchive, Entry, entries

_MAX_RATIO = 100
# An archive so small harms nobody however well it packs; real ones full of zeros or tables reach ratios of 300.
_RATIO_FLOOR = 16 * 1024 * 1024

_CHUNK = 1024 * 1024
_FEED = 64 * 1024  # zlib copies what it could not take yet, so it is fed in small bites


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold.

    Args:
        unpacked: Bytes of all files together.
        entries: Files and folders, those that only stand in other entries' names included.
    """

    unpacked: int
    entries: int


def unpack(archive: memoryview, folder: str, limits: Limits) -> None:
    """Makes the folder, with everything that the archive holds.

    Raises:
        BadArchive: It is refused; what has been written by then is left there.
        OSError: The disk is full, or fails.
    """
    found = entries(archive, limits.entries)
    _check_sizes(sum(entry.size for entry in found), len(archive), limits)
    os.mkdir(folder, 0o755)
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _write_all(archive, found, root, limits)
    finally:
        os.close(root)


def _check_sizes(unpacked: int, packed: int, limits: Limits) -> None:
    if unpacked > limits.unpacked:
        raise BadArchive(f"{unpacked} bytes unpacked, at most {limits.unpacked} are allowed")
    if unpacked > _RATIO_FLOOR and unpacked > _MAX_RATIO * packed:
        raise BadArchive(f"{packed} bytes claim to unpack to {unpacked}: more than {_MAX_RATIO} times as much")


def _write_all(archive: memoryview, found: list[Entry], root: int, limits: Limits) -> None:
    made: set[str] = set()
    for entry in found:
        name = entry.name.removesuffix("/")
        folder = name if entry.is_folder else name.rpartition("/")[0]
        if folder and folder not in made:
            _make_folders(folder, made, root)
        if len(made) > limits.entries:
            raise BadArchive(f"over {limits.entries} folders")
        if not entry.is_folder:
            _write_file(archive, entry, root)


def _make_folders(path: str, made: set[str], root: int) -> None:
    parent = path.rpartition("/")[0]
    if parent and parent not in made:
        _make_folders(parent, made, root)
    try:
        os.mkdir(path, 0o755, dir_fd=root)
    except (FileExistsError, NotADirectoryError):
        raise BadArchive(f"{path!r} is both a file and a folder") from None
    made.add(path)


def _write_file(archive: memoryview, entry: Entry, root: int) -> None:
    # There are no links in the folder to follow, since none are ever written; the flags make sure of it.
    mode = 0o755 if entry.mode & 0o111 else 0o644
    try:
        file = os.open(entry.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=root)
    except FileExistsError:
        raise BadArchive(f"{entry.name!r} is both a file and a folder") from None
    with open(file, "wb") as writer:
        for piece in contents(archive, entry):
            writer.write(piece)


def contents(archive: memoryview, entry: Entry) -> Iterator[bytes | memoryview]:
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
        raise BadArchive(f"{entry.name!r} holds {seen} bytes and claims {entry.size}")
    if crc != entry.crc:
        raise BadArchive(f"{entry.name!r} is damaged: CRC {crc:08x}, expected {entry.crc:08x}")


def _stored(packed: memoryview) -> Iterator[memoryview]:
    for at in range(0, len(packed), _CHUNK):
        yield packed[at : at + _CHUNK]


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
        raise BadArchive(f"{entry.name!r} does not inflate: {error}") from error
    if not inflater.eof or inflater.unused_data or fed < len(packed):
        raise BadArchive(f"{entry.name!r} ends before, or behind, where the archive says")
