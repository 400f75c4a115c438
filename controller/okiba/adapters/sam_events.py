"""A function's S3 events as bindings."""

from __future__ import annotations

from typing import Any, Final

from okiba.adapters.sam_check import mapping
from okiba.adapters.sam_document import Document, Place
from okiba.core.binding import Binding

EVENT_KINDS: Final = (
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Post",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
)
"""What a function can be started by; both AWS and MinIO announce all of these."""


def bindings(document: Document, place: Place, events: dict[str, Any]) -> tuple[Binding, ...]:
    """One binding an event; values are resolved, so that `Bucket` is a name.

    Raises:
        InvalidParameter: An event lacks its bucket or kinds, or its filter is not one.
        Unsupported: A kind of event that Okiba does not pass on.
    """
    return tuple(_binding(document, (*place, name), name, event) for name, event in events.items())


def _binding(document: Document, place: Place, name: str, event: dict[str, Any]) -> Binding:
    inside = (*place, "Properties")
    properties = mapping(document, inside, event.get("Properties"))
    rules = _rules(document, (*inside, "Filter"), properties.get("Filter"))
    return Binding(
        id=name,
        bucket=str(properties["Bucket"]),
        events=_kinds(document, (*inside, "Events"), properties.get("Events")),
        prefix=rules.get("prefix", ""),
        suffix=rules.get("suffix", ""),
    )


def _kinds(document: Document, place: Place, value: object) -> tuple[str, ...]:
    kinds = value if isinstance(value, list) else [value]
    for kind in kinds:
        if kind not in EVENT_KINDS:
            raise document.unsupported(place, f"{kind!r} starts no function here; what does: {', '.join(EVENT_KINDS)}")
    if not kinds:
        raise document.invalid(place, "an S3 event needs at least one kind, such as s3:ObjectCreated:*")
    return tuple(dict.fromkeys(kinds))


def _rules(document: Document, place: Place, value: object) -> dict[str, str]:
    """The filter's rules by name; AWS reads the names without regard to case."""
    if value is None:
        return {}
    key_filter = mapping(document, (*place, "S3Key"), mapping(document, place, value).get("S3Key"))
    written = key_filter.get("Rules")
    if not isinstance(written, list):
        raise document.invalid(place, "Filter needs S3Key: Rules: a list of {Name: prefix or suffix, Value: text}")
    found: dict[str, str] = {}
    for rule in written:
        entry = mapping(document, place, rule)
        name = str(entry.get("Name")).lower()
        if name not in {"prefix", "suffix"} or name in found or not isinstance(entry.get("Value"), str):
            raise document.invalid(place, f"a filter has at most one prefix and one suffix, each a text; got {entry}")
        found[name] = entry["Value"]
    return found
