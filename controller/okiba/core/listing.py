"""What a bucket's listing tells of its objects, as the events that told of them when they came to be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from okiba.core.binding import Binding, concerns
from okiba.core.event import Event, record


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object, or one version of one, as it is listed.

    Args:
        modified_ms: By the store's clock.
        version_id: Empty where the bucket is not versioned, and for the null version.
        deleted: It is a delete marker.
    """

    key: str
    modified_ms: int
    etag: str = ""
    size: int = 0
    version_id: str = ""
    deleted: bool = False


def event_of(bucket: str, stored: StoredObject) -> Event:
    """The event that told of the object, or told of another way of writing it: a listing does not say how it was.

    Its identity is the same as that one's, which `core.event` sees to.
    """
    name = "ObjectCreated:CompleteMultipartUpload" if "-" in stored.etag else "ObjectCreated:Put"
    time = datetime.fromtimestamp(stored.modified_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return Event(
        bucket=bucket,
        key=stored.key,
        name="ObjectRemoved:DeleteMarkerCreated" if stored.deleted else name,
        time=time.replace("+00:00", "Z"),
        sequencer=f"{stored.modified_ms * 1_000_000:016X}",
        version_id=stored.version_id,
        size=stored.size,
        etag=stored.etag,
    )


def first_concerned(bindings: Iterable[Binding], event: Event, written_ms: int | None) -> Binding | None:
    """The first of a function's bindings that the event concerns; as with S3, overlapping ones do not double it.

    Args:
        written_ms: When its object came to be, if only bindings that are known to have been there count.
    """
    return next(
        (
            binding
            for binding in bindings
            if (written_ms is None or written_ms >= binding.since_ms > 0)
            and concerns(binding, event.bucket, event.key, event.name)
        ),
        None,
    )


def told(events: Iterable[Event]) -> bytes:
    """The notification that tells of them, as a store would have sent it."""
    return json.dumps({"Records": [record(event, "okiba-sweep", "") for event in events]}).encode()
