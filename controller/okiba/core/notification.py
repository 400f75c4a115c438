"""What a store must be told so that it tells Okiba: MinIO's targets, and the rules of one bucket.

Okiba owns the rules whose id starts with `okiba-` and no other; whatever else a bucket announces, and to whom, stays.
Nothing here talks to a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from okiba.core.binding import Binding

RULE_PREFIX: Final = "okiba-"

# Two lanes, because no single one is both quick and safe: a direct webhook arrives within milliseconds but is lost
# while its receiver is away; one with a folder survives that, but waits for MinIO's ticker of 3 s.
LANES: Final = {
    "direct": "arn:minio:sqs::OKIBADIRECT:webhook",
    "queued": "arn:minio:sqs::OKIBAQUEUED:webhook",
}

# Files of 1 to 2 KB in MinIO's folder, one an event; MinIO's own default, set here so that a release cannot change it.
QUEUE_LIMIT: Final = 100_000

# What this MinIO announces (internal/event/name.go). It refuses a bucket's whole configuration for one kind that it
# does not know, and the configuration is shared by all functions of the bucket.
_EVENTS: Final = """
    ObjectAccessed:* ObjectAccessed:Attributes ObjectAccessed:Get ObjectAccessed:GetLegalHold
    ObjectAccessed:GetRetention ObjectAccessed:Head
    ObjectCreated:* ObjectCreated:CompleteMultipartUpload ObjectCreated:Copy ObjectCreated:DeleteTagging
    ObjectCreated:Post ObjectCreated:Put ObjectCreated:PutLegalHold ObjectCreated:PutRetention
    ObjectCreated:PutTagging
    ObjectRemoved:* ObjectRemoved:Delete ObjectRemoved:DeleteAllVersions ObjectRemoved:DeleteMarkerCreated
    ObjectRemoved:NoOP LifecycleDelMarkerExpiration:Delete
    ObjectRestore:* ObjectRestore:Completed ObjectRestore:Post
    ObjectTransition:* ObjectTransition:Complete ObjectTransition:Failed
    Replication:* Replication:OperationCompletedReplication Replication:OperationFailedReplication
    Replication:OperationMissedThreshold Replication:OperationNotTracked
    Replication:OperationReplicatedAfterThreshold
"""
KNOWN_EVENTS: Final = frozenset(f"s3:{name}" for name in _EVENTS.split())

MAX_FILTER: Final = 1_024


class Kind(StrEnum):
    """What a rule's destination is; MinIO has queues alone, other stores all three."""

    QUEUE = "queue"
    TOPIC = "topic"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of a bucket's notification configuration.

    Args:
        id: The rule's name; stores make one up when it is empty.
        arn: The destination.
        events: Event kinds as AWS spells them, `s3:ObjectCreated:*`.
        prefix: What the key must start with; None when the rule has no such filter, which is not the same as "".
        suffix: What the key must end with.
    """

    id: str
    arn: str
    events: tuple[str, ...]
    prefix: str | None = None
    suffix: str | None = None
    kind: Kind = Kind.QUEUE


def minio_notify_environment(webhook_base_url: str, token: str, queue_dir: Path) -> dict[str, str]:
    """The variables that make MinIO know both lanes; it must have them before it starts.

    Args:
        webhook_base_url: The gateway's admin port, `http://127.0.0.1:4567`.
        token: What MinIO sends as `Authorization: Bearer`.
        queue_dir: Where the queued lane keeps what it could not deliver; on a disk that survives MinIO.
    """
    webhook = "MINIO_NOTIFY_WEBHOOK"
    environment = {
        # Off is MinIO's default, and decides who waits: with it on, a PUT does.
        "MINIO_API_SYNC_EVENTS": "off",
        f"{webhook}_QUEUE_DIR_OKIBAQUEUED": str(queue_dir),
        f"{webhook}_QUEUE_LIMIT_OKIBAQUEUED": str(QUEUE_LIMIT),
    }
    for lane in LANES:
        target = target_of(lane)
        environment[f"{webhook}_ENABLE_{target}"] = "on"
        environment[f"{webhook}_ENDPOINT_{target}"] = lane_endpoint(webhook_base_url, lane)
        environment[f"{webhook}_AUTH_TOKEN_{target}"] = token
    return environment


def minio_notify_commands(webhook_base_url: str, token: str, queue_dir: Path, alias: str = "ALIAS") -> list[str]:
    """The same for a MinIO that runs, as `mc` commands; it refuses those whose address it does not reach.

    Args:
        token: As a shell reads it: `$TOKEN` is the shell's to replace.
        alias: What `mc` calls that MinIO.
    """
    configure = f"mc admin config set {alias}"
    queue = {"queued": f' queue_dir="{queue_dir}" queue_limit={QUEUE_LIMIT}'}
    lanes = [
        f'{configure} notify_webhook:{target_of(lane)} endpoint="{lane_endpoint(webhook_base_url, lane)}" '
        f'auth_token="{token}"{queue.get(lane, "")}'
        for lane in LANES
    ]
    return [*lanes, f"{configure} api sync_events=off", f"mc admin service restart {alias}"]


def target_of(lane: str) -> str:
    """What MinIO calls a lane."""
    return f"OKIBA{lane.upper()}"


def lane_endpoint(webhook_base_url: str, lane: str) -> str:
    """Where a lane's notifications go."""
    return f"{webhook_base_url.rstrip('/')}/webhooks/s3/{lane}"


def wanted_rules(bucket: str, present: Sequence[Rule], bindings: Iterable[Binding]) -> tuple[Rule, ...]:
    """The bucket's configuration as it should be: everyone else's rules as they are, then one of ours per lane.

    Which function an event concerns is decided at routing; these rules only have to let everything through that
    could concern any. So their filter is the one that all bindings share, or none.

    Args:
        present: The configuration as the store has it.
        bindings: Of all functions; those of other buckets are passed over.
    """
    others = tuple(rule for rule in present if not rule.id.startswith(RULE_PREFIX))
    here = [binding for binding in bindings if binding.bucket == bucket and not unknown_events(binding)]
    if not here:
        return others
    events = _union(kind for binding in here for kind in binding.events)
    prefix = _shared({binding.prefix for binding in here})
    suffix = _shared({binding.suffix for binding in here})
    if prefix and suffix and _overlap(prefix, suffix):
        suffix = None  # MinIO matches `prefix*suffix`, so `a.jpg` would not fit prefix `a.` and suffix `.jpg`
    ours = tuple(Rule(f"{RULE_PREFIX}{lane}", arn, events, prefix, suffix) for lane, arn in LANES.items())
    return others + ours


def as_bindings(bucket: str, present: Iterable[Rule]) -> tuple[Binding, ...]:
    """What our rules of a bucket let through now, as bindings that would ask for just that."""
    ours = (rule for rule in present if rule.id.startswith(RULE_PREFIX))
    return tuple(Binding(rule.id, bucket, rule.events, rule.prefix or "", rule.suffix or "") for rule in ours)


def unknown_events(binding: Binding) -> tuple[str, ...]:
    """The binding's event kinds that the store would refuse."""
    return tuple(kind for kind in binding.events if kind not in KNOWN_EVENTS)


def same_rules(one: Iterable[Rule], other: Iterable[Rule]) -> bool:
    """Whether two configurations mean the same; stores keep neither the order of rules nor of event kinds."""
    return _meaning(one) == _meaning(other)


def _meaning(rules: Iterable[Rule]) -> set[tuple[str, str, frozenset[str], str, str, Kind]]:
    return {
        (rule.id, _without_region(rule.arn), frozenset(rule.events), rule.prefix or "", rule.suffix or "", rule.kind)
        for rule in rules
    }


def _without_region(arn: str) -> str:
    """MinIO tells ARNs back with its own region in them, whatever it was told."""
    parts = arn.split(":")
    return ":".join([*parts[:3], "", *parts[4:]])


def _union(kinds: Iterable[str]) -> tuple[str, ...]:
    """Every kind that no other one includes, sorted: `s3:ObjectCreated:Put` adds nothing to `s3:ObjectCreated:*`."""
    all_kinds = set(kinds)
    return tuple(sorted(kind for kind in all_kinds if not _included(kind, all_kinds - {kind})))


def _included(kind: str, others: set[str]) -> bool:
    return any(other.endswith("*") and fnmatchcase(kind, other) for other in others)


def _shared(values: set[str]) -> str | None:
    """The one value, if there is one, it filters anything, and it goes through XML unchanged."""
    value = values.pop() if len(values) == 1 else ""
    return value if value and len(value) <= MAX_FILTER and value.isprintable() else None


def _overlap(prefix: str, suffix: str) -> bool:
    """Whether one key's end could be both the end of the prefix and the beginning of the suffix."""
    return any(suffix.startswith(prefix[start:]) for start in range(len(prefix)))
