"""A function's record as JSON text, its environment sealed.

What a reader does not know he passes over, what he misses has its default: so gateways of two releases can read one
registry while an upgrade rolls.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from okiba.adapters.vault import Vault
from okiba.core.binding import Binding
from okiba.core.errors import PlatformError
from okiba.core.function import Function, Layer, State, Statement, UpdateStatus


def encode(function: Function, vault: Vault) -> str:
    """The record as it is stored."""
    return json.dumps(_record(function, vault), separators=(",", ":"))


def _record(function: Function, vault: Vault) -> dict[str, Any]:
    record = asdict(function)
    record["environment"] = vault.seal(json.dumps(dict(function.environment)), _purpose(function.name))
    record["running"] = _record(function.running, vault) if function.running else None
    return record


def decode(text: bytes, vault: Vault) -> Function:
    """The function of a stored record.

    Raises:
        PlatformError: It is no such record, or its environment does not open.
    """
    try:
        return _function(json.loads(text), vault)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PlatformError(f"a function's record is damaged: {error!r} in {text[:100]!r}") from error


def _function(record: dict[str, Any], vault: Vault) -> Function:
    return Function(**{**_known(Function, record), **_nested(record, vault)})


def _known(kind: type, record: dict[str, Any]) -> dict[str, Any]:
    """Of the record, what this release knows of such a thing."""
    return {field.name: record[field.name] for field in fields(kind) if field.name in record}


def _nested(record: dict[str, Any], vault: Vault) -> dict[str, Any]:
    layer, running = record.get("layer"), record.get("running")
    return {
        "environment": json.loads(vault.open(record["environment"], _purpose(record["name"]))),
        "layer": Layer(**_known(Layer, layer)) if layer else None,
        "preload": tuple(record.get("preload", ())),
        "bindings": tuple(_binding(binding) for binding in record.get("bindings", ())),
        "statements": tuple(_statement(statement) for statement in record.get("statements", ())),
        "state": State(record["state"]),
        "running": _function(running, vault) if running else None,
        "warnings": tuple(record.get("warnings", ())),
        "last_update": UpdateStatus(record.get("last_update", UpdateStatus.SUCCESSFUL)),
    }


def _binding(binding: dict[str, Any]) -> Binding:
    return Binding(**{**_known(Binding, binding), "events": tuple(binding["events"])})


def _statement(statement: dict[str, Any]) -> Statement:
    return Statement(tuple(statement["actions"]), tuple(statement["resources"]))


def _purpose(name: str) -> str:
    return f"environment:{name}"
