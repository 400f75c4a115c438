"""A function's folder as a zip that is the same, byte for byte, whenever the folder is.

Entries are sorted, times fixed, permissions reduced to "executable or not", so that deploying unchanged code finds
its digest already deployed. What cannot be carried faithfully (symbolic links, sockets) is refused, not skipped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from okiba.core.errors import InvalidParameter

MAX_ZIPPED: Final = 52_428_800
"""50 MB, Lambda's limit for a package sent directly."""

MAX_UNZIPPED: Final = 262_144_000
"""250 MB, Lambda's limit for a package unpacked."""

LEFT_OUT: Final = frozenset({"__pycache__", ".git", ".venv"})
"""Folders that are never part of a package, at any depth."""

REQUIREMENTS: Final = "requirements.txt"

# The earliest time that a zip can say, and the same for everyone.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Package:
    """A packed function.

    Args:
        zipped: The archive.
        requirements: The text of requirements.txt at its top; empty if there is none.
    """

    zipped: bytes
    requirements: str

    @property
    def sha256(self) -> str:
        """Base64 of the archive's digest, as Lambda's CodeSha256 spells it."""
        return base64.b64encode(hashlib.sha256(self.zipped).digest()).decode()


def packed(folder: Path) -> Package:
    """The package of everything in a folder.

    Raises:
        InvalidParameter: The folder is empty or too large, or holds something that is neither file nor folder, or
            cannot be read, or has a name that is not UTF-8.
    """
    buffer = io.BytesIO()
    unzipped = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(folder):
            content, executable = _content(path)
            unzipped += len(content)
            if unzipped > MAX_UNZIPPED:
                raise InvalidParameter(
                    f"{folder} holds more than {MAX_UNZIPPED} bytes, the most that a function may have"
                )
            _write(archive, path.relative_to(folder).as_posix(), content, executable)
    if not archive.filelist:
        raise InvalidParameter(f"{folder} has no files to package")
    if buffer.tell() > MAX_ZIPPED:
        raise InvalidParameter(f"{folder} makes a package of {buffer.tell()} bytes; {MAX_ZIPPED} are allowed")
    return Package(buffer.getvalue(), _requirements(folder / REQUIREMENTS))


def packed_inline(code: str) -> Package:
    """The package of a template's InlineCode, which is `index.py`."""
    return packed_files({"index.py": code.encode()})


def packed_files(files: Mapping[str, bytes]) -> Package:
    """The package of these contents, by file name; its requirements are the caller's to find."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            _write(archive, name, files[name], executable=False)
    return Package(buffer.getvalue(), "")


def _files(folder: Path) -> Iterator[Path]:
    """Every file below the folder, in an order that does not depend on the file system."""
    for path in _entries(folder):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            if path.name not in LEFT_OUT:
                yield from _files(path)
        elif stat.S_ISREG(mode):
            yield path
        else:
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            raise InvalidParameter(f"{path} is {kind}; a package has only files and folders")


def _entries(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise _unreadable(folder, error) from error
    for entry in entries:
        try:
            entry.name.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(entry).decode(errors="backslashreplace")
            raise InvalidParameter(f"the name of {shown} is not UTF-8, as names in a package must be") from error
    return entries


def _content(path: Path) -> tuple[bytes, bool]:
    """A file's bytes, and whether it is executable."""
    try:
        if path.stat().st_size > MAX_UNZIPPED:
            raise InvalidParameter(f"{path} alone holds more than {MAX_UNZIPPED} bytes, the most a function may have")
        return path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InvalidParameter:
    return InvalidParameter(f"{path} cannot be read: {error.strerror}")


def _write(archive: zipfile.ZipFile, name: str, content: bytes, executable: bool) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3  # Unix, whichever system packs
    entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _requirements(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InvalidParameter(f"{path} is not a text in UTF-8: {error}") from error
