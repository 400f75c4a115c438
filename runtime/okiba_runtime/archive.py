"""What a zip archive claims to hold, read from its directory and checked against its local headers; inflates nothing.

    [local header, name, extra][data][descriptor?] … [directory] [zip64 end?] [end of directory, comment]

Packages are checked when they are deployed, by a reader of the platform's own. This one refuses what that one refuses,
with a hash between them: a slot believes neither the store nor its platform. Python's `zipfile` accepts entries that
overlap and headers that contradict each other. Every number read is a claim until compared with another.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

STORED = 0
_DEFLATED = 8

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_MAX_COMMENT = 0xFFFF
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_PATCHED = 0x0020
_HAS_DESCRIPTOR = 0x0008
_UTF8 = 0x0800
_IN_ZIP64 = 0xFFFFFFFF

_MAX_PATH = 1024
_MAX_COMPONENT = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f]").search
_DRIVE = re.compile("[A-Za-z]:").match


class BadArchive(ValueError):
    """The archive is refused; the message says which entry, and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, its claims consistent; offsets and sizes in bytes.

    Args:
        name: A plain relative path, `/` at the end of a folder's.
        begins: Where its local header is.
        data: Where its data is.
        packed: Size of the data as stored.
        size: Size once inflated, as claimed.
        mode: Unix mode bits, 0 where the archive has none.
    """

    name: str
    begins: int
    data: int
    packed: int
    size: int
    crc: int
    method: int
    mode: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, which archives tell by a slash at the end of the name."""
        return self.name.endswith("/")


def entries(archive: memoryview, most: int) -> list[Entry]:
    """The entries in the order of the directory; they lie one behind the other, from the archive's first byte on.

    Args:
        most: So many are allowed.

    Raises:
        BadArchive: It is no zip archive, is truncated, encrypted, contradicts itself, or has links, devices or paths
            in it that lead elsewhere.
    """
    begins, ends, count = _directory(archive)
    if count > most:
        raise BadArchive(f"{count} entries, at most {most} are allowed")
    found = list(_central_entries(archive, begins, ends))
    if len(found) != count:
        raise BadArchive(f"the directory announces {count} entries and has {len(found)}")
    _check_disjoint(found, begins)
    told: set[str] = set()
    for entry in found:
        _check_name(entry.name)
        _check_kind(entry)
        if entry.name in told:
            raise BadArchive(f"{entry.name!r} is in it twice")
        told.add(entry.name)
    return found


def _directory(archive: memoryview) -> tuple[int, int, int]:
    """Where the directory begins and ends, and how many entries it announces."""
    at = _end_of_directory(archive)
    _, disk, first_disk, here, count, size, begins, _ = _END.unpack_from(archive, at)
    if disk or first_disk or here != count:
        raise BadArchive("archives in several parts are not read")
    ends = at
    if 0xFFFF in (here, count) or _IN_ZIP64 in (size, begins):
        ends, count, size, begins = _zip64_directory(archive, at)
    if begins + size != ends:
        raise BadArchive("the directory is not where the archive says: there is data before or within the archive")
    return begins, ends, count


def _end_of_directory(archive: memoryview) -> int:
    """Where the end record is: the last one whose comment reaches exactly to the archive's end."""
    floor = max(0, len(archive) - _END.size - _MAX_COMMENT)
    tail = bytes(archive[floor:])
    at = tail.rfind(b"PK\5\6", 0, max(0, len(tail) - _END.size + 4))
    while at >= 0:
        if at + _END.size + _END.unpack_from(tail, at)[-1] == len(tail):
            return floor + at
        at = tail.rfind(b"PK\5\6", 0, at + 3)
    raise BadArchive("no end of a zip directory found: not a zip file, truncated, or with data behind it")


def _zip64_directory(archive: memoryview, end: int) -> tuple[int, int, int, int]:
    locator = end - _END64_LOCATOR.size
    signature, disk, at, disks = _unpacked(_END64_LOCATOR, archive, locator, "zip64 locator")
    if signature != b"PK\6\7" or disk or disks > 1:
        raise BadArchive("the zip64 locator is missing")
    signature, length, _, _, disk, first_disk, here, count, size, begins = _unpacked(
        _END64, archive, at, "zip64 directory end"
    )
    if signature != b"PK\6\6" or disk or first_disk or here != count or at + 12 + length != locator:
        raise BadArchive("the zip64 end of the directory contradicts itself")
    return at, count, size, begins


def _central_entries(archive: memoryview, at: int, ends: int) -> Iterator[Entry]:
    while at < ends:
        fields = _unpacked(_CENTRAL, archive, at, "directory entry")
        name_length, extra_length, comment_length = fields[10:13]
        name_at, extra_at = at + _CENTRAL.size, at + _CENTRAL.size + name_length
        at = extra_at + extra_length + comment_length
        if fields[0] != b"PK\1\2" or at > ends:
            raise BadArchive("the directory is damaged")
        raw_name = bytes(archive[name_at:extra_at])
        yield _entry(archive, fields, raw_name, bytes(archive[extra_at : extra_at + extra_length]))


def _entry(archive: memoryview, fields: tuple[Any, ...], raw_name: bytes, extra: bytes) -> Entry:
    flags, method, crc, external = fields[3], fields[4], fields[7], fields[15]
    name = _decoded(raw_name, flags)
    if flags & _ENCRYPTED:
        raise BadArchive(f"{name!r} is encrypted")
    if method not in (STORED, _DEFLATED) or flags & _PATCHED:
        raise BadArchive(f"{name!r} is packed by method {method}; deflate (8) and none (0) are read")
    size, packed, begins = _true_sizes(name, (fields[9], fields[8], fields[16]), extra)
    data = _data_offset(archive, begins, raw_name, flags, (method, crc, packed, size))
    return Entry(name, begins, data, packed, size, crc, method, mode=external >> 16)


def _true_sizes(name: str, claims: tuple[int, int, int], extra: bytes) -> list[int]:
    """Size, packed size and offset, from the zip64 extra field where the directory points there."""
    wide = list(_zip64_numbers(extra))
    true = []
    for value in claims:  # in the order in which the extra field has those that need it
        if value == _IN_ZIP64 and not wide:
            raise BadArchive(f"{name!r} lacks its zip64 sizes")
        true.append(wide.pop(0) if value == _IN_ZIP64 else value)
    return true


def _zip64_numbers(extra: bytes) -> tuple[int, ...]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            numbers = extra[at + 4 : at + 4 + length]
            return struct.unpack(f"<{len(numbers) // 8}Q", numbers[: len(numbers) // 8 * 8])
        at += 4 + length
    return ()


def _data_offset(
    archive: memoryview, begins: int, raw_name: bytes, flags: int, claims: tuple[int, int, int, int]
) -> int:
    """Where the data begins, once the local header has been found to claim the same as the directory."""
    local = _unpacked(_LOCAL, archive, begins, "local header")
    signature, local_flags, local_method = local[0], local[2], local[3]
    name_length: int = local[9]
    extra_length: int = local[10]
    name_at = begins + _LOCAL.size
    same_name = bytes(archive[name_at : name_at + name_length]) == raw_name
    if signature != b"PK\3\4" or not same_name or local_method != claims[0] or (local_flags ^ flags) & _ENCRYPTED:
        raise BadArchive(f"{raw_name[:100]!r}: directory and local header contradict each other")
    if not local_flags & _HAS_DESCRIPTOR and not _same_sizes(local[6:9], claims[1:]):
        raise BadArchive(f"{raw_name[:100]!r}: sizes in directory and local header contradict each other")
    return name_at + name_length + extra_length


def _same_sizes(local: tuple[Any, ...], central: tuple[int, ...]) -> bool:
    return all(mine in (theirs, _IN_ZIP64) for mine, theirs in zip(local, central, strict=True))


def _check_disjoint(found: list[Entry], directory: int) -> None:
    reached = 0
    for index, entry in enumerate(sorted(found, key=lambda entry: entry.begins)):
        if index == 0 and entry.begins != 0:
            raise BadArchive(f"{entry.begins} bytes of something else stand before the archive")
        if entry.begins < reached:
            raise BadArchive(f"{entry.name!r} overlaps another entry")
        reached = entry.data + entry.packed
    if reached > directory:
        raise BadArchive("entries reach into the directory: truncated, or overlapping")


def _check_name(name: str) -> None:
    components = name.removesuffix("/").split("/")
    if name.startswith("/") or _DRIVE(name):
        raise BadArchive(f"{name[:100]!r} is an absolute path")
    if "\\" in name or _CONTROL(name):
        raise BadArchive(f"{name[:100]!r} has a backslash or a control character in it")
    if any(component in ("", ".", "..") for component in components):
        raise BadArchive(f"{name[:100]!r} is not a plain path")
    longest = max(len(component.encode()) for component in components)
    if len(name.encode()) > _MAX_PATH or longest > _MAX_COMPONENT:
        raise BadArchive(f"{name[:100]!r}… is longer than {_MAX_PATH} bytes, or than {_MAX_COMPONENT} between slashes")


def _check_kind(entry: Entry) -> None:
    if stat.S_IFMT(entry.mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadArchive(f"{entry.name!r} is neither a file nor a folder: mode {entry.mode:o}")
    if stat.S_ISDIR(entry.mode) and not entry.is_folder:
        raise BadArchive(f"{entry.name!r} is a folder by its mode and a file by its name")
    if entry.is_folder and entry.size:
        raise BadArchive(f"the folder {entry.name!r} has {entry.size} bytes of content")
    if not entry.is_folder and entry.mode & (stat.S_ISUID | stat.S_ISGID):
        raise BadArchive(f"{entry.name!r} is setuid or setgid")


def _decoded(raw_name: bytes, flags: int) -> str:
    try:
        return raw_name.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise BadArchive(f"the name {raw_name[:100]!r} is not UTF-8, as it says") from None


def _unpacked(layout: struct.Struct, archive: memoryview, at: int, what: str) -> tuple[Any, ...]:
    if at < 0 or at + layout.size > len(archive):
        raise BadArchive(f"truncated: no room for a {what} at byte {at}")
    return layout.unpack_from(archive, at)
