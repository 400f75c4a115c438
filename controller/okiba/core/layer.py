"""A function's requirements as a layer: what may stand in them, what its name is, where it lies.

A layer is built once per content and never changed. pip runs on the platform's own machine, so what it is told is a
list of packages and nothing else: no option, no address, no file, no variable. Nothing here runs pip.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from okiba.core.errors import InvalidParameter
from okiba.core.function import Layer

MAX_REQUIREMENTS: Final = 65_536

# What every slot has beside its layers, as Lambda's Python runtimes ship boto3; their order on sys.path is last.
BASE_REQUIREMENTS: Final = """\
argon2-cffi==25.1.0
argon2-cffi-bindings==26.2.0
boto3==1.44.5
botocore==1.44.5
certifi==2026.10.18
cffi==2.1.1
jmespath==1.1.0
minio==7.2.20
pycparser==3.11 ; python_version < "3.11"
pycparser==3.12 ; python_version >= "3.11"
pycryptodome==4.4.0
python-dateutil==2.9.0.post0
s3transfer==0.19.3
six==1.17.0
typing-extensions==4.16.0
urllib3==2.8.0
"""

# What of it a slot without a layer has imported before it is anyone's: nearly every handler of bucket events uses it.
BASE_PRELOAD: Final = ("boto3", "boto3.s3.inject", "encodings.idna")

# Part of every hash, so that a release which builds layers in another way does not find the old ones.
_FORMAT: Final = 1

_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_EXTRAS: Final = rf"(?:\s*\[\s*(?:{_NAME}\s*(?:,\s*{_NAME}\s*)*)?\])?"
_VERSION: Final = r"(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9._*+!-]+"
_VERSIONS: Final = rf"(?:\s*\(?\s*{_VERSION}(?:\s*,\s*{_VERSION})*\s*\)?)?"
_MARKER: Final = r"(?:\s*;\s*[A-Za-z0-9_.'\"<>=!~() ,+-]+)?"
_HASHES: Final = r"(?:\s+--hash=sha(?:256|384|512):[0-9a-f]+)*"
_REQUIREMENT: Final = re.compile(_NAME + _EXTRAS + _VERSIONS + _MARKER + _HASHES)


class LayerPhase(StrEnum):
    """Where a layer's intent stands."""

    WANTED = "wanted"  # a job is to build it
    BUILDING = "building"  # a job does, and says so every few seconds
    READY = "ready"
    FAILED = "failed"  # building it again would end the same way


@dataclass(frozen=True, slots=True)
class LayerArchive:
    """A layer as slots fetch it that share no folder with its builder: a zip archive, laid out as its folder.

    Args:
        sha256: Digest of the archive, in hex.
        size: Bytes of the archive.
    """

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class LayerIntent:
    """What is wanted of a layer and how far it has come: enough for a job to build it, knowing nothing else.

    Args:
        progress: The last line that building it said.
        error: Why it failed; of a layer that is wanted, why the last attempt at it did.
        changed_ms: Wall clock of the last change of `phase`.
        attempts: Failures so far that waiting may mend, such as a package index that is away.
        due_ms: Not to be tried before.
        preload: Modules that its functions imported out of it; what a warm slot of it imports ahead of time.
        archive: Of a layer that is ready: what lies in the object store; None where slots share its folder.
    """

    layer: Layer
    runtime: str
    phase: LayerPhase
    progress: str = ""
    error: str = ""
    changed_ms: int = 0
    attempts: int = 0
    due_ms: int = 0
    preload: tuple[str, ...] = ()
    archive: LayerArchive | None = None


def asks_anew(intent: LayerIntent, asked_ms: int) -> bool:
    """Whether a layer that is not there has to be asked for again: it was ready once, or failed before that.

    Args:
        asked_ms: When the function that needs it was last changed: deploying again after a failure is asking again.
    """
    if intent.phase is LayerPhase.FAILED:
        return intent.changed_ms < asked_ms
    return intent.phase is LayerPhase.READY


def layer_retry_ms(attempts: int) -> int:
    """Wait before the next attempt at a layer after so many failures: 10 s, doubling, at most 10 minutes."""
    return min(600_000, 10_000 << min(attempts - 1, 10))


def layer_of(requirements: str, runtime: str, platform: str, *, allow_source: bool = False) -> Layer:
    """The layer that these requirements make; equal content has an equal hash.

    Args:
        requirements: A requirements.txt as it stands in the package.
        runtime: `python3.11`; wheels are per Python version.
        platform: `sysconfig.get_platform()` of where slots run, such as `linux-x86_64`.
        allow_source: Whether packages without a wheel may be built, which runs their code.

    Raises:
        InvalidParameter: As `checked_requirements`.
    """
    text = checked_requirements(requirements)
    content = json.dumps([_FORMAT, text, runtime, platform, allow_source])
    return Layer(hashlib.sha256(content.encode()).hexdigest(), text, allow_source)


def base_layer(runtime: str, platform: str) -> Layer:
    """The layer that every slot of this runtime has: boto3 and minio."""
    return layer_of(BASE_REQUIREMENTS, runtime, platform)


def layer_folder(layer_hash: str) -> PurePosixPath:
    """Where the layer lies below the state folder, laid out as Lambda's /opt."""
    return PurePosixPath("layers") / layer_hash


def layer_packages(layer_hash: str) -> PurePosixPath:
    """The folder in it that goes on `sys.path`; it is there if, and only if, the layer is whole."""
    return layer_folder(layer_hash) / "python"


def checked_requirements(text: str) -> str:
    """The requirements without comments and blank lines, one a line; what pip is given.

    Raises:
        InvalidParameter: A line is not a package's name with versions, extras, markers and hashes; names the line.
    """
    if len(text.encode()) > MAX_REQUIREMENTS:
        raise InvalidParameter(f"requirements: at most {MAX_REQUIREMENTS} bytes, got {len(text.encode())}")
    lines = [(number, _without_comment(line)) for number, line in _joined_lines(text)]
    return "".join(f"{_checked_line(number, line)}\n" for number, line in lines if line)


def _joined_lines(text: str) -> list[tuple[int, str]]:
    """Lines with their numbers, a backslash at the end joining the next one, as pip reads them."""
    joined: list[tuple[int, str]] = []
    begun: tuple[int, str] | None = None
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        start, before = begun or (number, "")
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            begun = (start, before + line[:-1] + " ")
        else:
            begun = None
            joined.append((start, before + line))
    return [*joined, begun] if begun else joined


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line).strip()


def _checked_line(number: int, line: str) -> str:
    # Runs of whitespace, which the expression below can divide in many ways, cost the cube of their length: 4,000
    # spaces in a marker took it over a minute. So of each run one is left, and the length is bounded too.
    collapsed = " ".join(line.split())
    if len(collapsed) <= 4_096 and _REQUIREMENT.fullmatch(collapsed):
        return collapsed
    if line.startswith("-"):
        why = "options of pip are the operator's to set (pip.conf, PIP_INDEX_URL), not a function's"
    elif "://" in line or "@" in line or line.startswith((".", "/")):
        why = "packages come from the package index by name, not from an address or a file"
    else:
        why = "expected a package's name with versions, as in `Pillow>=11,<14`"
    raise InvalidParameter(f"requirements line {number}: {line[:200]!r} is refused: {why}")
