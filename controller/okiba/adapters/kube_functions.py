"""`Function` objects (functions.okiba.dev): what one asks for, in the words of Lambda's API, and what it is told back.

The object is a request. Its spec is checked by the cluster (the schema, CEL) and again, by the same readers as every
request of Lambda's API, before anything is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from okiba.core.errors import InvalidParameter
from okiba.core.function import Function, State, UpdateStatus

Document = dict[str, Any]

FINALIZER: Final = "okiba.dev/function"
READY: Final = "Ready"


@dataclass(frozen=True, slots=True)
class InlineCode:
    """The text of index.py."""

    text: str


@dataclass(frozen=True, slots=True)
class ConfigMapCode:
    """A ConfigMap whose keys are files."""

    name: str


@dataclass(frozen=True, slots=True)
class StoredCode:
    """A zip in a bucket."""

    bucket: str
    key: str
    version: str = ""

    @property
    def source(self) -> str:
        """How the status names it, so that an unchanged one is not read again."""
        return f"s3://{self.bucket}/{self.key}{f'?versionId={self.version}' if self.version else ''}"


Code = InlineCode | ConfigMapCode | StoredCode


@dataclass(frozen=True, slots=True)
class SecretVariable:
    """A variable whose value is in a Secret."""

    variable: str
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """One object, as it was last seen.

    Args:
        deleted: It is to go, as soon as the finalizer is taken off.
        finalizers: All of its finalizers, in order.
    """

    name: str
    uid: str
    generation: int
    version: str
    deleted: bool
    finalizers: tuple[str, ...]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @property
    def held(self) -> bool:
        """Whether it cannot go without being let go here."""
        return FINALIZER in self.finalizers

    @property
    def code(self) -> Code:
        """Where its code is.

        Raises:
            InvalidParameter: It says so in no way, or in several.
        """
        given = self.spec.get("code") or {}
        if not isinstance(given, dict) or len(given) != 1:
            raise InvalidParameter("code must be exactly one of inline, s3 and configMap")
        match given:
            case {"inline": str(text)}:
                return InlineCode(text)
            case {"configMap": {"name": str(name)}}:
                return ConfigMapCode(name)
            case {"s3": {"bucket": str(bucket), "key": str(key), **more}}:
                return StoredCode(bucket, key, str(more.get("versionId") or ""))
        raise InvalidParameter("code must be exactly one of inline, s3 and configMap")

    @property
    def secrets(self) -> tuple[SecretVariable, ...]:
        """Variables that come from Secrets."""
        return tuple(
            SecretVariable(item["variable"], item["name"], item["key"]) for item in self.spec.get("secrets") or []
        )

    @property
    def buckets(self) -> tuple[str, ...]:
        """Buckets that are to be there, beside those of its events."""
        return tuple(self.spec.get("buckets") or ())

    def configuration(self, secret_values: Mapping[str, str]) -> dict[str, Any]:
        """The body of the CreateFunction that this amounts to, without its code."""
        spec = self.spec
        return {
            "Runtime": spec.get("runtime") or "python3.11",
            "Handler": spec.get("handler"),
            "Description": spec.get("description") or "",
            "MemorySize": spec.get("memorySize") or 128,
            "Timeout": spec.get("timeout") or 3,
            "Environment": {"Variables": {**(spec.get("environment") or {}), **secret_values}},
        }

    def attachments(self, manager: str, requirements: str) -> dict[str, Any]:
        """What `okiba deploy` would attach.

        Args:
            requirements: The text found in the package, for a spec that has none.
        """
        spec = self.spec
        return {
            "bindings": [
                {
                    "id": event.get("name"),
                    "bucket": event.get("bucket"),
                    "events": event.get("events"),
                    "prefix": event.get("prefix") or "",
                    "suffix": event.get("suffix") or "",
                }
                for event in spec.get("events") or []
            ],
            "statements": [
                {"actions": policy.get("actions"), "resources": policy.get("resources")}
                for policy in spec.get("policies") or []
            ],
            "requirements": requirements if spec.get("requirements") is None else spec["requirements"],
            "allow_source": spec.get("allowSource") or False,
            "preload": spec.get("preload") or [],
            "managed_by": manager,
        }

    def limits(self) -> dict[str, Any]:
        """Fields of the record that need no preparation."""
        spec = self.spec
        return {
            "reserved_concurrency": spec.get("reservedConcurrency"),
            "retries": _or(spec.get("maximumRetryAttempts"), 2),
            "max_event_age_s": _or(spec.get("maximumEventAge"), 21_600),
        }


def declaration(document: Document) -> Declaration:
    """The object that a document is of."""
    metadata = document["metadata"]
    return Declaration(
        name=metadata["name"],
        uid=metadata["uid"],
        generation=int(metadata.get("generation") or 0),
        version=metadata.get("resourceVersion") or "",
        deleted=bool(metadata.get("deletionTimestamp")),
        finalizers=tuple(metadata.get("finalizers") or ()),
        spec=document.get("spec") or {},
        status=document.get("status") or {},
    )


def finalizers_patch(declared: Declaration, *, held: bool) -> Document:
    """Puts the finalizer on, or takes it off, if the object still is as it was seen."""
    others = [name for name in declared.finalizers if name != FINALIZER]
    wanted = [*others, FINALIZER] if held else others
    return {"metadata": {"resourceVersion": declared.version, "finalizers": wanted}}


# --- what it is told ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an object stands.

    Args:
        ready: True, False, or None for not yet.
        reason: One word, for programs.
        message: For people; empty when all is well.
    """

    state: str
    ready: bool | None
    reason: str
    message: str


def verdict_on(function: Function) -> Verdict:
    """How the function that was made of an object stands."""
    if function.state is State.FAILED:
        return Verdict("Failed", False, "PreparationFailed", function.state_reason)
    if function.state is State.PENDING:
        return Verdict("Pending", None, "Preparing", function.state_reason)
    if function.last_update is UpdateStatus.FAILED:
        return Verdict("Active", False, "UpdateFailed", function.last_update_reason)
    if function.last_update is UpdateStatus.IN_PROGRESS:
        return Verdict("Active", None, "Updating", function.last_update_reason)
    return Verdict("Active", True, "Prepared", "")


def refused(message: str, reason: str = "Refused") -> Verdict:
    """How an object stands that no function is made of."""
    return Verdict("Refused", False, reason, message)


def status_of(
    declared: Declaration, verdict: Verdict, slots: int, function: Function | None, source: str, now_ms: int
) -> Document:
    """The whole status, as it is applied.

    Args:
        source: Where the code was read, when that was.
    """
    ready = "Unknown" if verdict.ready is None else str(verdict.ready)
    told: list[Mapping[str, Any]] = declared.status.get("conditions") or []
    before = next((each for each in told if each.get("type") == READY), {})
    since = before.get("lastTransitionTime") if before.get("status") == ready else None
    condition = {
        "type": READY,
        "status": ready,
        "observedGeneration": declared.generation,
        "lastTransitionTime": since or _timestamp(now_ms),
        "reason": verdict.reason,
        "message": verdict.message[:4_096],
    }
    status: Document = {
        "state": verdict.state,
        "slots": slots,
        "lastError": verdict.message[:1_024] if verdict.ready is False else "",
        "observedGeneration": declared.generation,
        "conditions": [condition],
    }
    if function is not None:
        status["revision"] = function.revision
        status["code"] = {"source": source, "sha256": function.code_sha256, "bytes": function.code_bytes}
    return status


def same_status(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether nothing would change if the one were applied over the other."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _timestamp(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
