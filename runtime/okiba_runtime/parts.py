"""What an order or a preload takes from the object store: zip archives by address and digest. Pure.

A part lies, once fetched, in a folder named by its digest, so what is asked for twice is there the second time. A
worker learns the addresses of its own function's parts, which it may read anyway; never anyone else's.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from okiba_runtime.order import BadOrder
from okiba_runtime.unpacking import Limits

LIMITS: Final = {
    # Lambda's for a package, which were applied when it was deployed.
    "code": Limits(unpacked=262_144_000, entries=10_000),
    # What pip made of a function's requirements, each module with its compiled twin; that may be more than Lambda's.
    "layer": Limits(unpacked=1024 * 1024 * 1024, entries=65_000),
}

# Of an archive whose size the order does not tell.
MAX_PACKED: Final = 512 * 1024 * 1024

_DIGEST: Final = re.compile("[0-9a-f]{64}").fullmatch
_ADDRESS: Final = re.compile(r"https?://[\x21-\x7e]+").fullmatch


@dataclass(frozen=True, slots=True)
class Part:
    """An archive in the object store.

    Args:
        sha256: Digest of the archive, in hex.
        size: Bytes of the archive; 0 where the order does not tell.
        folder: Where its content goes.
        name: What messages call it.
        kind: Whose LIMITS it has.
    """

    url: str
    sha256: str
    size: int
    folder: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Located:
    """An order's or a preload's fields with folders for addresses, and what must be fetched into these folders."""

    fields: dict[str, Any]
    parts: tuple[Part, ...]

    def order_with_parts(self) -> dict[str, Any]:
        """The order as the worker gets it that fetches its own parts, see `parts_of`."""
        return {**self.fields, "fetch": [asdict(part) for part in self.parts]}


def parts_of(fields: dict[str, Any]) -> list[Part]:
    """What an order of the agent's own tells its worker to fetch."""
    return [Part(**part) for part in fields.get("fetch", ())]


def located(fields: Any, root: str) -> Located:
    """The same fields with a folder under `root` wherever an archive's address stands.

    Raises:
        BadOrder: An archive is not described as PROTOCOL.md says.
    """
    if not isinstance(fields, dict):
        raise BadOrder(f"expected an object, got {type(fields).__name__}")
    parts: list[Part] = []

    def placed(value: Any, name: str, kind: str, below: str = "") -> Any:
        if not isinstance(value, dict) or "url" not in value:
            return value
        parts.append(_part(value, root, name, kind))
        return {"path": parts[-1].folder + below}

    told = {name: value for name, value in fields.items() if name != "fetch"}
    if "code" in told:
        told["code"] = placed(told["code"], "code", "code")
    for field, below in (("layers", ""), ("packages", "/python")):
        if isinstance(told.get(field), list):
            told[field] = [placed(value, f"{field}[{at}]", "layer", below) for at, value in enumerate(told[field])]
    return Located(told, tuple({part.folder: part for part in parts}.values()))


def _part(value: dict[str, Any], root: str, name: str, kind: str) -> Part:
    digest, size, label = value.get("sha256"), value.get("size", 0), value.get("id", "")
    if not isinstance(digest, str) or not _DIGEST(digest):
        raise BadOrder(f"{name}.sha256: expected 64 hex digits")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_PACKED:
        raise BadOrder(f"{name}.size: expected a number of bytes up to {MAX_PACKED}, got {size!r}")
    if not isinstance(label, str):
        raise BadOrder(f"{name}.id: expected str, got {type(label).__name__}")
    called = f"layer {label}" if label else name
    return Part(_address(value["url"], name), digest, size, os.path.join(root, digest), called, kind)


def _address(url: Any, name: str) -> str:
    if not isinstance(url, str) or not _ADDRESS(url) or not _names_host_alone(url):
        raise BadOrder(f"{name}.url: expected http:// or https://, a host and a path, without a user")
    return url


def _names_host_alone(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:  # a port that is no number, brackets that do not match
        return False
