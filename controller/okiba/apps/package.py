"""The child process that touches packages: `python -m okiba.apps.package body|zip|extract …`.

    body SPOOL INTO     a CreateFunction or UpdateFunctionCode body: JSON and base64 read, the zip checked and written
                        to INTO/<sha256>.zip; prints the body's other fields
    zip SPOOL INTO      the same for a zip that came from a bucket
    extract ZIP INTO SHA256    unpacks a stored zip to INTO/<sha256>

It prints one line of JSON: `{"fields", "sha256", "packed_bytes", "unzipped_bytes", "files"}`, or `{"error": {"kind",
"message"}}` where the package is to blame. Parsing 70 MB of JSON, hashing and inflating take up to a second or two,
which is why they happen here and not in the gateway; and a bug in zlib would have to break out of a process that
has no credentials in its environment and limits on memory, time and file size. Only the standard library and the
package modules may be imported here: its start is part of every deployment.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from okiba.adapters.package_zip import MAX_UNZIPPED, check, extract
from okiba.core.errors import InvalidParameter, OkibaError
from okiba.core.strict_json import parsed_object

MAX_ZIP: Final = 52_428_800  # Lambda's 50 MB for a zip uploaded directly
MAX_FIELDS: Final = 128 * 1024  # of the rest of the body, which the gateway parses in its loop

# A body of 70 MB is held as bytes, as text, as its largest string and as the zip at once: 260 MB. Twice that, and the
# package mapped into memory.
_MEMORY: Final = 1024 * 1024 * 1024
_CPU_S: Final = 60
_NICE: Final = 10


def main(arguments: Sequence[str]) -> int:
    """Does what the arguments say and prints the result; 0 also when the package was refused."""
    _confine()
    action, *paths = arguments
    try:
        result = _ACTIONS[action](*paths)
    except OkibaError as error:
        result = {"error": {"kind": type(error).__name__, "message": str(error)}}
    except MemoryError:
        result = {"error": {"kind": "InvalidParameter", "message": f"Reading it takes over {_MEMORY} bytes of memory"}}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _confine() -> None:
    """Limits this process to what a lawful package can need, and lets the data path go first."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_UNZIPPED, MAX_UNZIPPED))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICE)


def _read_body(spool: str, into: str) -> dict[str, Any]:
    body = parsed_object(Path(spool).read_bytes())
    code = body.get("Code")
    encoded = code.pop("ZipFile", None) if isinstance(code, dict) else body.pop("ZipFile", None)
    if len(json.dumps(body)) > MAX_FIELDS:
        raise InvalidParameter(f"Fields other than ZipFile must be smaller than {MAX_FIELDS} bytes")
    if encoded is None:
        return {"fields": body}
    unpacked = Path(into) / "package.zip"
    unpacked.write_bytes(_decoded(encoded))
    return {"fields": body, **_read_zip(str(unpacked), into)}


def _read_zip(spool: str, into: str) -> dict[str, Any]:
    package = check(Path(spool))
    Path(spool).rename(Path(into) / f"{package.sha256}.zip")
    return asdict(package)


def _extract(package: str, into: str, sha256: str) -> dict[str, Any]:
    return {"folder": str(extract(Path(package), Path(into), sha256))}


def _decoded(encoded: object) -> bytes:
    if not isinstance(encoded, str):
        raise InvalidParameter(f"ZipFile must be a base64 string, got {type(encoded).__name__}")
    if len(encoded) // 4 * 3 > MAX_ZIP + 3:
        raise InvalidParameter(f"ZipFile must be at most {MAX_ZIP} bytes, got about {len(encoded) // 4 * 3}")
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise InvalidParameter(f"ZipFile is not base64: {error}") from error


_ACTIONS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "body": _read_body,
    "zip": _read_zip,
    "extract": _extract,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
