"""Zip archives for tests, written byte by byte, so that they can lie."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, field


@dataclass
class Member:
    """An entry to be written; what is None is told truthfully."""

    name: str | bytes
    content: bytes = b"x = 1\n"
    mode: int = 0o100644
    flags: int = 0
    method: int = 8
    packed: bytes | None = None
    told_size: int | None = None
    told_crc: int | None = None
    local_name: bytes | None = None
    local_method: int | None = None
    at: int | None = None
    extra: bytes = b""
    told_packed: int | None = None


@dataclass
class Archive:
    """An archive to be written.

    Args:
        before: Bytes in front of it.
        behind: Bytes after its end.
        told_count: Entries that its end record announces.
    """

    members: list[Member]
    before: bytes = b""
    behind: bytes = b""
    comment: bytes = b""
    told_count: int | None = None
    shifts_offsets: bool = False
    _body: bytearray = field(default_factory=bytearray)

    def bytes(self) -> bytes:
        self._body = bytearray(self.before)
        shift = len(self.before) if self.shifts_offsets else 0
        directory = b"".join(self._written(member, shift) for member in self.members)
        begins = len(self._body)
        count = len(self.members) if self.told_count is None else self.told_count
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), begins - shift, len(self.comment))
        return bytes(self._body) + directory + end + self.comment + self.behind

    def _written(self, member: Member, shift: int) -> bytes:
        name = member.name if isinstance(member.name, bytes) else member.name.encode()
        flags = member.flags | (0x800 if isinstance(member.name, str) and not member.name.isascii() else 0)
        packed = member.packed if member.packed is not None else pack(member.content, member.method)
        size = len(member.content) if member.told_size is None else member.told_size
        crc = zlib.crc32(member.content) if member.told_crc is None else member.told_crc
        told_packed = len(packed) if member.told_packed is None else member.told_packed
        begins = len(self._body) - shift if member.at is None else member.at
        if member.at is None:
            local_name = name if member.local_name is None else member.local_name
            local_method = member.method if member.local_method is None else member.local_method
            self._body += struct.pack(
                "<4s5H3L2H", b"PK\3\4", 20, flags, local_method, 0, 33, crc, told_packed, size, len(local_name), 0
            )
            self._body += local_name + packed
        return struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 0x0314, 20, flags, member.method, 0, 33, crc, told_packed, size,
            len(name), len(member.extra), 0, 0, 0, member.mode << 16, begins,
        ) + name + member.extra  # fmt: skip


def pack(content: bytes, method: int = 8) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush() if method == 8 else content


def lawful(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip as everybody makes them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
