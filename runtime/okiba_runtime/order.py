"""What `specialize` orders, parsed once into a value that cannot be wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

# Read by the dynamic linker, the interpreter or a numeric library when it starts; setting them later has no effect.
_READ_AT_EXEC = ("LD_", "PYTHON", "OMP_", "MALLOC_", "MKL_", "OPENBLAS_", "NUMEXPR_", "GLIBC_")


class BadOrder(ValueError):
    """The order cannot be carried out; the message names the field and says what was expected."""


@dataclass(frozen=True, slots=True)
class Order:
    """One function for one slot, for life; field names and units are PROTOCOL.md's.

    Args:
        layers: Folders laid out as Lambda's /opt, in the function's order.
        packages: Folders behind the layers on sys.path.
    """

    epoch: int
    grant: str
    name: str
    version: str
    arn: str
    handler: str
    memory_mb: int
    timeout_ms: int
    log_group: str
    log_stream: str
    environment: dict[str, str]
    code: str
    layers: tuple[str, ...]
    packages: tuple[str, ...]
    init_ms: int

    @property
    def needs_exec(self) -> bool:
        """Whether the environment has variables that only a freshly started interpreter obeys."""
        return any(name.startswith(_READ_AT_EXEC) for name in self.environment)

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder that the function's code comes from."""
        return (self.code, *self.layers, *self.packages)

    def check_folders(self, besides: Collection[str] = ()) -> None:
        """Every folder is there.

        Args:
            besides: Those that are on their way, and what is in them.

        Raises:
            BadOrder: One is not.
        """
        for folder in self.folders:
            if folder not in besides and os.path.dirname(folder) not in besides and not os.path.isdir(folder):
                raise BadOrder(f"no such folder: {folder}")

    def import_path(self) -> list[str]:
        """What stands before the standard library on sys.path, as on Lambda.

        Lambda unpacks layers over each other, so that a later one hides an earlier one; hence the reversed order.
        """
        return [self.code, *import_folders(self.layers, self.packages)]


def import_folders(layers: tuple[str, ...], packages: tuple[str, ...]) -> list[str]:
    """What layers and packages put on sys.path, behind the function's own code."""
    found = [folder for layer in reversed(layers) for folder in _python_folders(layer) if os.path.isdir(folder)]
    return [*found, *packages]


def _python_folders(layer: str) -> list[str]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [f"{layer}/python/lib/{version}/site-packages", f"{layer}/python"]


def parse_order(body: bytes) -> Order:
    """The order that this JSON spells.

    Raises:
        BadOrder: Not JSON, or a field is missing, mistyped or out of range.
    """
    return order_of(parse_json(body))


def parse_json(body: bytes) -> Any:
    """What the body spells.

    Raises:
        BadOrder: It is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadOrder(f"the body must be JSON: {error}") from error


def order_of(fields: Any) -> Order:
    """The order in these fields, every folder of which is named by its path.

    Raises:
        BadOrder: A field is missing, mistyped or out of range.
    """
    function = _field(fields, "function", dict)
    code = _field(fields, "code", dict)
    return Order(
        epoch=_number(fields, "epoch", 0),
        grant=_matching(fields, "grant", lambda grant: len(grant) == 64 and _is_hex(grant), "64 hex digits"),
        name=_field(function, "name", str),
        version=_field(function, "version", str),
        arn=_field(function, "arn", str),
        handler=_field(function, "handler", str),
        memory_mb=_number(function, "memory_mb", 1),
        timeout_ms=_number(function, "timeout_ms", 1),
        log_group=_field(function, "log_group", str),
        log_stream=_field(function, "log_stream", str),
        environment=_environment(_field(fields, "environment", dict)),
        code=_folder(_field(code, "path", str)),
        layers=layers_of(fields),
        packages=packages_of(fields),
        init_ms=_number(fields, "init_ms", 1),
    )


def layers_of(fields: Any) -> tuple[str, ...]:
    """The folders of `layers`, in the function's order.

    Raises:
        BadOrder: One is not an absolute path.
    """
    return tuple(_folder(_field(layer, "path", str)) for layer in _field(fields, "layers", list))


def packages_of(fields: Any) -> tuple[str, ...]:
    """The folders of `packages`; an entry is a path, or an object with one.

    Raises:
        BadOrder: One is not an absolute path.
    """
    entries = _field(fields, "packages", list)
    return tuple(_folder(entry.get("path") if isinstance(entry, dict) else entry) for entry in entries)


def _field(fields: Any, name: str, kind: type[Any]) -> Any:
    value = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, kind):
        raise BadOrder(f"{name}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def _number(fields: Any, name: str, least: int) -> int:
    value = _field(fields, name, int)
    if isinstance(value, bool) or value < least:
        raise BadOrder(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)


def _matching(fields: Any, name: str, fits: Callable[[str], bool], expected: str) -> str:
    value = _field(fields, name, str)
    if not fits(value):
        raise BadOrder(f"{name}: expected {expected}")
    return str(value)


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in text)


def _environment(variables: dict[Any, Any]) -> dict[str, str]:
    for name, value in variables.items():
        if not isinstance(value, str) or not name or "=" in name or "\0" in name + value:
            raise BadOrder(f"environment: {name!r} must be a name without '=' and have a text value without NUL")
    return variables


def _folder(path: Any) -> str:
    if not isinstance(path, str) or not os.path.isabs(path):
        raise BadOrder(f"expected an absolute path of a folder, got {path!r}")
    return os.path.normpath(path)
