"""Which bucket events concern which function: the `Events` of a SAM template, decided purely."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Binding:
    """One bucket trigger of one function.

    Args:
        id: The event's logical id in the template; becomes `configurationId` in the records that handlers see.
        bucket: The bucket's name.
        events: Event kinds as AWS spells them, `s3:ObjectCreated:*` or `s3:ObjectRemoved:Delete`.
        prefix: What the key (not URL-encoded) must start with; empty means any.
        suffix: What the key must end with; empty means any.
        since_ms: When it was made, by Okiba's clock: older objects are none of its; 0 where nobody knows.
    """

    id: str
    bucket: str
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    since_ms: int = 0


def concerns(binding: Binding, bucket: str, key: str, event_name: str) -> bool:
    """Whether an event is the binding's to handle.

    Args:
        key: The object's key, decoded.
        event_name: With or without the leading `s3:`.
    """
    name = event_name if event_name.startswith("s3:") else f"s3:{event_name}"
    return (
        bucket == binding.bucket
        and key.startswith(binding.prefix)
        and key.endswith(binding.suffix)
        and any(fnmatchcase(name, kind) for kind in binding.events)
    )


def made(wanted: Iterable[Binding], before: Iterable[Binding], now_ms: int) -> tuple[Binding, ...]:
    """The bindings with their ages: those that were there before keep theirs, if it is known; others are made now."""
    ages = {replace(binding, since_ms=0): binding.since_ms for binding in before}
    return tuple(replace(binding, since_ms=ages.get(replace(binding, since_ms=0)) or now_ms) for binding in wanted)
