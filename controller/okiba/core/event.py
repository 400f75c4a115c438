"""Bucket events: from the S3 event JSON of any store to an identity, and to exactly the record that AWS sends.

Strict about types and sizes, lenient about what is absent: stores leave out what they do not know. Only the fields
named here go on; what else a store says (MinIO's `contentType`, `userMetadata`, `source`) ends here.

Whoever changes this: two tellings of one event must go on having one id, or lanes stop being duplicates.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote_plus, unquote_plus
from uuid import UUID

from okiba.core.errors import InvalidRequestContent
from okiba.core.strict_json import parsed

MAX_KEY_BYTES: Final = 1024
"""S3's limit on a key, in UTF-8."""

MAX_TEXT: Final = 3 * MAX_KEY_BYTES
"""Characters of any field: a key of the longest kind with each of its bytes as %XX."""

TEST_EVENT: Final = "s3:TestEvent"

_EMPTY_MD5: Final = "d41d8cd98f00b204e9800998ecf8427e"
_NAME: Final = re.compile(r"(?:s3:)?([A-Za-z]{1,64}(?::[A-Za-z]{1,64}){0,2})")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)", re.ASCII)
_NANOSECONDS: Final = re.compile("[0-9A-Fa-f]{16}")
_LONGEST_WRITE_MS: Final = 7 * 86_400_000
"""Between an object's modification time and the event that tells of it; what is farther apart is no such time."""

_CREATIONS: Final = frozenset(f"ObjectCreated:{how}" for how in ("Put", "Post", "Copy", "CompleteMultipartUpload"))
_REMOVALS: Final = frozenset(("ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated"))
_RECORD_VERSIONS: Final = {
    "Replication": "2.2",
    "LifecycleExpiration": "2.3",
    "LifecycleTransition": "2.3",
    "IntelligentTiering": "2.3",
    "ObjectAcl": "2.3",
    "ObjectTagging": "2.3",
    "ObjectRestore:Delete": "2.3",
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to one object.

    Args:
        key: Decoded: what the client put.
        name: AWS's name without `s3:`, such as `ObjectCreated:Put`.
        time: UTC with milliseconds, as AWS writes it.
        sequencer: Hex, ordered per key; empty if the store has none.
        version_id: Empty where the bucket is not versioned, and for the null version.
        size: Bytes; None where the store does not say.
        etag: Without quotes.
        principal: Who did it; with MinIO, the access key.
        owner: The bucket's owner.
        store_request_id: `x-amz-request-id` of the request that caused it.
        store_host_id: Its `x-amz-id-2`.
    """

    bucket: str
    key: str
    name: str
    time: str
    sequencer: str = ""
    version_id: str = ""
    size: int | None = None
    etag: str = ""
    region: str = ""
    principal: str = ""
    owner: str = ""
    source_ip: str = ""
    store_request_id: str = ""
    store_host_id: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    """What one body said.

    Args:
        faults: Why the body, or single records in it, could not be read; the other records stand.
    """

    events: tuple[Event, ...]
    faults: tuple[str, ...] = ()


# --- reading ----------------------------------------------------------------------------------------------------------


def read_notification(body: bytes) -> Notification:
    """The events that a notification tells of; never raises, whatever the body is."""
    try:
        records = _records(parsed(body))
    except InvalidRequestContent as error:
        return Notification((), (str(error),))
    events: list[Event] = []
    faults: list[str] = []
    for index, record in enumerate(records):
        try:
            events.append(_event(record))
        except InvalidRequestContent as error:
            faults.append(f"Records[{index}]: {error}")
    return Notification(tuple(events), tuple(faults))


def _records(document: Any) -> list[Any]:
    if not isinstance(document, dict):
        raise InvalidRequestContent(f"expected an object with Records, got {_kind(document)}")
    if document.get("Event") == TEST_EVENT:
        return []
    records = document.get("Records")
    if not isinstance(records, list) or not records:
        raise InvalidRequestContent(f"expected Records to be a list of at least one, got {_kind(records)}")
    return records


def _event(record: Any) -> Event:
    version = _text(record, "s3", "object", "versionId")
    return Event(
        bucket=_required(record, "s3", "bucket", "name"),
        key=_key(_required(record, "s3", "object", "key")),
        name=_matched(_NAME, _required(record, "eventName"))[1],
        time=_time(_required(record, "eventTime")),
        sequencer=_text(record, "s3", "object", "sequencer"),
        version_id="" if version == "null" else version,
        size=_size(_at(record, ("s3", "object", "size"))),
        etag=_text(record, "s3", "object", "eTag").strip('"'),
        region=_text(record, "awsRegion"),
        principal=_text(record, "userIdentity", "principalId"),
        owner=_text(record, "s3", "bucket", "ownerIdentity", "principalId"),
        source_ip=_text(record, "requestParameters", "sourceIPAddress"),
        store_request_id=_text(record, "responseElements", "x-amz-request-id"),
        store_host_id=_text(record, "responseElements", "x-amz-id-2"),
    )


def _at(value: Any, path: tuple[str, ...]) -> Any:
    """The value at a path; None where it, or anything on the way, is absent."""
    for name in path:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise InvalidRequestContent(f"{'.'.join(path)}: expected an object around {name}, got {_kind(value)}")
        value = value.get(name)
    return value


def _text(record: Any, *path: str) -> str:
    value = _at(record, path)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequestContent(f"{'.'.join(path)}: expected a string, got {_kind(value)}")
    if len(value) > MAX_TEXT:
        raise InvalidRequestContent(f"{'.'.join(path)}: {len(value)} characters, allowed are {MAX_TEXT}")
    return value


def _required(record: Any, *path: str) -> str:
    value = _text(record, *path)
    if not value:
        raise InvalidRequestContent(f"{'.'.join(path)}: missing")
    return value


def _key(escaped: str) -> str:
    try:
        key = unquote_plus(escaped, errors="strict")
    except UnicodeDecodeError:
        raise InvalidRequestContent("s3.object.key: its escapes are not UTF-8") from None
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidRequestContent(f"s3.object.key: {len(key.encode())} bytes, allowed are {MAX_KEY_BYTES}")
    return key


def _time(text: str) -> str:
    matched = _matched(_TIME, text)
    return f"{matched[1]}.{(matched[2] or '')[:3]:0<3}Z"


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    matched = pattern.fullmatch(text)
    if matched is None:
        raise InvalidRequestContent(f"{text[:64]!r} is no event name and no time in UTC")
    return matched


def _size(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise InvalidRequestContent(f"s3.object.size: expected a number of bytes, got {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:32]!r}"


# --- identity ---------------------------------------------------------------------------------------------------------


def event_id(event: Event) -> str:
    """22 characters of base64url that name this event: the same however often, and by whomever, it is told.

    That an object came to be has the identity that a listing of the bucket tells too, so that a sweep finds what was
    handled already. So two writes of the same content to the same key within one millisecond are one event, where the
    bucket is not versioned.
    """
    return urlsafe_b64encode(_digest(event.bucket, event.key, *_marker(event))).rstrip(b"=").decode()


def request_id(event_id: str, function: str) -> str:
    """AWS's request id, a UUID, for one function's invocation for an event; the same over retries and tellings."""
    return str(UUID(bytes=_digest(event_id, function), version=4))


def modified_ms(event: Event) -> int | None:
    """When the object was written, by its store's clock; None where the store does not tell.

    MinIO derives the sequencer from that time, in nanoseconds; others' sequencers are no time at all.
    """
    if not _NANOSECONDS.fullmatch(event.sequencer):
        return None
    try:
        told_ms = round(datetime.fromisoformat(event.time).timestamp() * 1000)
    except (ValueError, OverflowError):  # such as February 30th
        return None
    written_ms = int(event.sequencer, 16) // 1_000_000
    return written_ms if abs(written_ms - told_ms) < _LONGEST_WRITE_MS else None


def _marker(event: Event) -> tuple[str, str]:
    """What tells this event from others on its key, and of which kind it is."""
    name, version = event.name, event.version_id
    if name in _CREATIONS and (version or modified_ms(event)):
        return f"v{version}" if version else f"m{modified_ms(event)} {event.etag}", "ObjectCreated"
    if name in _REMOVALS and version:  # a version is removed once, and a delete marker is one
        return f"v{version}", name
    # Tagging an object leaves its modification time, and with it MinIO's sequencer, as they were.
    if name not in _CREATIONS and not name.startswith("ObjectRemoved:"):
        return f"t{version} {event.sequencer} {event.time}", name
    return f"s{event.sequencer}" if event.sequencer else f"e{event.etag} {event.time}", name


def _digest(*parts: str) -> bytes:
    # Each part with its length, so that no two lists of parts look the same.
    framed = (f"{len(part)}:{part}" for part in parts)
    return blake2b("".join(framed).encode(), digest_size=16).digest()


# --- AWS's record -----------------------------------------------------------------------------------------------------


def payload(event: Event, configuration_id: str, region: str) -> bytes:
    """The JSON that a handler gets: one record, as AWS sends one per message.

    Args:
        configuration_id: The id of the binding that matched.
        region: What stands in for the store's own region where it has none.
    """
    return json.dumps({"Records": [record(event, configuration_id, region)]}, separators=(",", ":")).encode()


def record(event: Event, configuration_id: str, region: str) -> dict[str, Any]:
    """AWS's record of the event, field by field in AWS's order.

    Source:
        S3's "Event message structure", and records of real AWS.
    """
    bucket = {
        "name": event.bucket,
        "ownerIdentity": {"principalId": event.owner},
        "arn": f"arn:aws:s3:::{event.bucket}",
    }
    return {
        "eventVersion": _record_version(event.name),
        "eventSource": "aws:s3",
        "awsRegion": event.region or region,
        "eventTime": event.time,
        "eventName": event.name,
        "userIdentity": {"principalId": event.principal},
        "requestParameters": {"sourceIPAddress": event.source_ip},
        "responseElements": {"x-amz-request-id": event.store_request_id, "x-amz-id-2": event.store_host_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": bucket,
            "object": _object(event),
        },
    }


def _object(event: Event) -> Mapping[str, str | int]:
    described: dict[str, str | int] = {"key": quote_plus(event.key, safe="/")}
    if event.name == "ObjectRemoved:DeleteMarkerCreated":
        described["eTag"] = _EMPTY_MD5
    elif not event.name.startswith("ObjectRemoved:"):
        described["size"] = event.size or 0  # MinIO leaves the size of an empty object out
        described["eTag"] = event.etag
    if event.version_id:
        described["versionId"] = event.version_id
    if event.sequencer:
        described["sequencer"] = event.sequencer
    return described


def _record_version(name: str) -> str:
    return _RECORD_VERSIONS.get(name) or _RECORD_VERSIONS.get(name.partition(":")[0], "2.1")
