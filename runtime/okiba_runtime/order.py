"""What `specialize` orders, parsed once into a value that cannot be wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Read by the dynamic linker, the interpreter or a numeric library when it starts; setting them later has no effect.
_READ_AT_EXEC = ("LD_", "PYTHON", "OMP_", "MALLOC_", "MKL_", "OPENBLAS_", "NUMEXPR_", "GLIBC_")


class BadOrder(ValueError):
    """The order cannot be carried out; the message names the field and says what was expected."""


class Unsupported(BadOrder):
    """The order asks for what this version does not have."""


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

    def check_folders(self) -> None:
        """Every folder is there.

        Raises:
            BadOrder: One is not.
        """
        for folder in self.folders:
            if not os.path.isdir(folder):
                raise BadOrder(f"no such folder: {folder}")

    def import_path(self) -> list[str]:
        """What stands before the standard library on sys.path, as on Lambda.

        Lambda unpacks layers over each other, so that a later one hides an earlier one; hence the reversed order.
        """
        path = [self.code]
        for layer in reversed(self.layers):
            path += [folder for folder in _python_folders(layer) if os.path.isdir(folder)]
        return [*path, *self.packages]


def _python_folders(layer: str) -> list[str]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [f"{layer}/python/lib/{version}/site-packages", f"{layer}/python"]


def parse_order(body: bytes) -> Order:
    """The order that this JSON spells.

    Raises:
        BadOrder: Not JSON, or a field is missing, mistyped or out of range.
    """
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise BadOrder(f"the body must be JSON: {error}") from error
    function = _field(fields, "function", dict)
    code = _field(fields, "code", dict)
    if "url" in code:
        raise Unsupported("code.url: this version takes code from a folder (code.path) only")
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
        layers=tuple(_folder(_field(layer, "path", str)) for layer in _field(fields, "layers", list)),
        packages=tuple(_folder(path) for path in _field(fields, "packages", list)),
        init_ms=_number(fields, "init_ms", 1),
    )


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
