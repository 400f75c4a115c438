"""What a deployed function is given beside Lambda's own configuration: read strictly, unknown fields refused.

These come from Okiba's own CLI and decide what a function may do, so nothing in them is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from okiba.adapters.s3_store import BUCKET
from okiba.apps.gateway.lambda_fields import text
from okiba.core.binding import Binding, made
from okiba.core.errors import InvalidParameter
from okiba.core.function import Function, Statement
from okiba.core.notification import unknown_events

MAX_LISTED: Final = 1_000
MAX_TEXT: Final = 65_536
MAX_ORIGIN: Final = 4_096 + 256
"""Linux's longest path, and a host's name before it."""

_ACTION: Final = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+", re.ASCII)
_MODULE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_FIELDS: Final = frozenset(
    {"bindings", "statements", "requirements", "allow_source", "preload", "managed_by", "origin", "warnings"}
)


@dataclass(frozen=True, slots=True)
class Attachments:
    """All that a deployment attaches to a function; what the request leaves out is none.

    Args:
        requirements: Text of its requirements.txt; empty for no layer.
    """

    bindings: tuple[Binding, ...]
    statements: tuple[Statement, ...]
    requirements: str
    allow_source: bool
    preload: tuple[str, ...]
    managed_by: str
    origin: str
    warnings: tuple[str, ...]


def attachments(body: Mapping[str, Any]) -> Attachments:
    """What the body says.

    Raises:
        InvalidParameter: A field is unknown or of the wrong type, an event kind or a bucket's name impossible.
    """
    _check_known(body, _FIELDS, "attachments")
    return Attachments(
        bindings=tuple(_binding(item) for item in _objects(body, "bindings")),
        statements=tuple(_statement(item) for item in _objects(body, "statements")),
        requirements=text(MAX_TEXT)(_or_empty(body, "requirements"), "requirements"),
        allow_source=_flag(body, "allow_source"),
        preload=tuple(_matching(name, _MODULE, "preload") for name in _strings(body, "preload")),
        managed_by=text(128)(_or_empty(body, "managed_by"), "managed_by") or "api",
        origin=text(MAX_ORIGIN)(_or_empty(body, "origin"), "origin"),
        warnings=_strings(body, "warnings"),
    )


def checked_bucket(name: str) -> str:
    """The name, if a user's bucket may have it.

    Raises:
        InvalidParameter: S3 would refuse it, or it is the platform's own.
    """
    if not _BUCKET.fullmatch(name) or ".." in name or re.fullmatch(r"\d+(\.\d+){3}", name):
        raise InvalidParameter(
            f"a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens: {name[:100]!r}"
        )
    if name == BUCKET:
        raise InvalidParameter(f"the bucket {BUCKET!r} is the platform's own")
    return name


def attached(function: Function, wanted: Attachments, now_ms: int) -> Function:
    """The function with these attachments in place of what it had, but for its layer, which `core.layer` names."""
    return replace(
        function,
        bindings=made(wanted.bindings, function.bindings, now_ms),
        statements=wanted.statements,
        preload=wanted.preload,
        managed_by=wanted.managed_by,
        origin=wanted.origin,
        warnings=wanted.warnings,
    )


def _binding(item: Mapping[str, Any]) -> Binding:
    _check_known(item, {"id", "bucket", "events", "prefix", "suffix"}, "a binding")
    binding = Binding(
        id=_named(item, "id"),
        bucket=checked_bucket(_named(item, "bucket")),
        events=_strings(item, "events"),
        prefix=text(1024)(_or_empty(item, "prefix"), "prefix"),
        suffix=text(1024)(_or_empty(item, "suffix"), "suffix"),
    )
    unknown = unknown_events(binding)
    if unknown or not binding.events:
        raise InvalidParameter(f"binding {binding.id!r}: unknown events {', '.join(unknown) or '(none given)'}")
    return binding


def _statement(item: Mapping[str, Any]) -> Statement:
    _check_known(item, {"actions", "resources"}, "a statement")
    actions = tuple(_matching(action, _ACTION, "actions") for action in _strings(item, "actions"))
    resources = _strings(item, "resources")
    if not actions or not resources:
        raise InvalidParameter("a statement has at least one action and one resource")
    return Statement(actions, resources)


def _check_known(item: Mapping[str, Any], known: set[str] | frozenset[str], what: str) -> None:
    unknown = sorted(item.keys() - known)
    if unknown:
        raise InvalidParameter(f"{what} has no field {unknown[0][:64]!r}; it has {', '.join(sorted(known))}")


def _objects(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    items = _list(body, name)
    if not all(isinstance(item, dict) for item in items):
        raise InvalidParameter(f"{name} must be a list of objects")
    return items


def _strings(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    items = _list(body, name)
    if not all(isinstance(item, str) and item for item in items):
        raise InvalidParameter(f"{name} must be a list of strings that are not empty")
    return tuple(items)


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    items = body.get(name)
    if items is None:
        return []
    if not isinstance(items, list) or len(items) > MAX_LISTED:
        raise InvalidParameter(f"{name} must be a list of at most {MAX_LISTED}")
    return items


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name) or False
    if not isinstance(value, bool):
        raise InvalidParameter(f"{name} must be true or false, got {value!r:.100}")
    return value


def _named(item: Mapping[str, Any], name: str) -> str:
    value = text(255)(item.get(name), name)
    if not value:
        raise InvalidParameter(f"{name} must not be empty")
    return value


def _or_empty(body: Mapping[str, Any], name: str) -> Any:
    value = body.get(name)
    return "" if value is None else value


def _matching(value: str, pattern: re.Pattern[str], name: str) -> str:
    if len(value) > 255 or not pattern.fullmatch(value):
        raise InvalidParameter(f"{name}: {value[:100]!r} is none")
    return value
