"""Runs `okiba.apps.package` as a child process: packages of strangers are read there, never in this process."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from okiba.adapters.package_zip import Package
from okiba.core import errors
from okiba.core.errors import InvalidParameter, OkibaError, PlatformError

# Twice the child's CPU limit: on a busy machine it gets half a core, being nice.
DEADLINE_S: Final = 120.0

_KINDS: Final[Mapping[str, type[OkibaError]]] = {
    "InvalidParameter": InvalidParameter,
    "BrokenZip": InvalidParameter,
    "InvalidRequestContent": errors.InvalidRequestContent,
    "PlatformError": PlatformError,
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A request body without its ZipFile, and the package that this was; None where it had none."""

    fields: dict[str, Any]
    package: Package | None


async def read_body(spool: Path, into: Path) -> Upload:
    """The fields and the package of a spooled request body; the zip lies at `into`/<sha256>.zip then.

    Raises:
        InvalidRequestContent: The body is no JSON object.
        InvalidParameter: The package is refused.
    """
    result = await _run("body", str(spool), str(into))
    fields = result.pop("fields")
    return Upload(fields, Package(**result) if result else None)


async def read_zip(spool: Path, into: Path) -> Package:
    """The package in a zip file, which is moved to `into`/<sha256>.zip."""
    return Package(**await _run("zip", str(spool), str(into)))


async def unpack(package: Path, into: Path, sha256: str) -> Path:
    """The folder `into`/<sha256> with a stored package's content; appears complete or not at all.

    Raises:
        PlatformError: The zip is damaged.
    """
    result = await _run("extract", str(package), str(into), sha256)
    return Path(result["folder"])


async def _run(*arguments: str) -> dict[str, Any]:
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    argv = (sys.executable, "-I", "-m", "okiba.apps.package", *arguments)
    # An empty environment: this process's own has the platform's keys in it.
    child = await asyncio.create_subprocess_exec(*argv, stdin=null, stdout=pipe, stderr=pipe, env={})
    try:
        async with asyncio.timeout(DEADLINE_S):
            told, complaint = await child.communicate()
    except TimeoutError:
        raise InvalidParameter(f"Reading the package took over {DEADLINE_S:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _result(child.returncode, told, complaint)


def _result(status: int | None, told: bytes, complaint: bytes) -> dict[str, Any]:
    if status and status < 0:
        raise InvalidParameter(f"Reading the package took more memory or time than allowed (signal {-status})")
    if status:
        raise PlatformError(f"the package process failed: {complaint.decode(errors='replace')[-500:]}")
    result: dict[str, Any] = json.loads(told)
    if "error" in result:
        raise _KINDS[result["error"]["kind"]](result["error"]["message"])
    return result
