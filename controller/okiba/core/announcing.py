"""Whether a store announces to Okiba what functions wait for, judged from what the store says of itself.

A notification passes two gates there: the bucket's rules, which name a target, and the target, which names an address.
Nothing here asks a store; `core.notification` says how both should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from okiba.core.binding import Binding
from okiba.core.notification import LANES, Rule, as_bindings, lane_endpoint, same_rules, target_of, wanted_rules

_TOLD: Final = re.compile(r"^(?:# MINIO_NOTIFY_WEBHOOK_(\w+?)_(OKIBA\w+)=|notify_webhook:(OKIBA\w+) )(.*)$", re.M)
_PAIR: Final = re.compile(r'(\w+)=("[^"]*"|\S*)')


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook that MinIO knows.

    Args:
        online: Whether MinIO reached its address when it last tried.
        endpoint: That address; empty when MinIO does not tell.
        queue_dir: Where it keeps what it could not deliver; empty: nowhere.
    """

    online: bool
    endpoint: str = ""
    queue_dir: str = ""


@dataclass(frozen=True, slots=True)
class Announcing:
    """How one lane or one bucket stands; `message` says what was seen, and what was expected where that is not it."""

    name: str
    ok: bool
    message: str


def targets(status: Mapping[str, Any], configuration: str) -> dict[str, Target]:
    """MinIO's webhooks by name, of Okiba's kind alone.

    Args:
        status: What its administrators' `info` answers.
        configuration: Its `notify_webhook` as `mc admin config get` prints it: a line for each target, and before it a
            comment for each of its values that an environment variable sets.
    """
    told = _configured(configuration)
    services = status.get("services") or {}
    hooks = [hook for group in services.get("notifications") or () for hook in group.get("webhook") or ()]
    return {
        name: Target(state.get("status") == "online", **told.get(name, {}))
        for hook in hooks
        for name, state in hook.items()
    }


def _configured(configuration: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for variable, named, target, rest in _TOLD.findall(configuration):
        pairs = [(variable.lower(), rest)] if variable else _PAIR.findall(rest)
        values = {name: value.strip('"') for name, value in pairs if name in {"endpoint", "queue_dir"} and value}
        found[named or target] = values | found.get(named or target, {})  # a variable goes before what is stored
    return found


def lanes(known: Mapping[str, Target], webhook_url: str) -> list[Announcing]:
    """How each lane stands: known to the store, to this Okiba's address, and reached there."""
    return [_lane(lane, known.get(target_of(lane)), lane_endpoint(webhook_url, lane)) for lane in LANES]


def _lane(lane: str, target: Target | None, wanted: str) -> Announcing:
    if target is None:
        return Announcing(lane, ok=False, message=f"the store has no target {target_of(lane)}")
    if target.endpoint and target.endpoint.rstrip("/") != wanted:
        return Announcing(lane, ok=False, message=f"{target_of(lane)} goes to {target.endpoint}, not to {wanted}")
    if lane == "queued" and target.endpoint and not target.queue_dir:
        return Announcing(lane, ok=False, message=f"{target_of(lane)} has no queue_dir: what fails to arrive is lost")
    if not target.online:
        return Announcing(lane, ok=False, message=f"the store does not reach {target.endpoint or wanted}")
    return Announcing(lane, ok=True, message=f"the store reaches {target.endpoint or wanted}")


def bucket(name: str, present: Sequence[Rule], bindings: Iterable[Binding]) -> Announcing:
    """Whether the bucket's rules let through, on every lane, all that these bindings wait for.

    Args:
        present: The bucket's configuration as the store has it.
        bindings: Of all functions; those of other buckets are passed over.
    """
    # What it announces beyond that does no harm.
    wanted = wanted_rules(name, present, (*bindings, *as_bindings(name, present)))
    if same_rules(present, wanted):
        return Announcing(name, ok=True, message="announces what its functions wait for")
    present_ids = {rule.id for rule in present}
    missing = [rule.id for rule in wanted if rule.id not in present_ids]
    seen = f"has no rule {' nor '.join(missing)}" if missing else "its rules are narrower than its functions' events"
    return Announcing(name, ok=False, message=seen)
