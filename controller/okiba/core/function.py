"""A function as the registry knows it, and what a slot must be told to become it.

The registry is the truth about functions; this is its record. Nothing here reads or writes the registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from okiba.core.binding import Binding

LATEST = "$LATEST"


class State(StrEnum):
    """AWS's function states, as far as they exist here."""

    PENDING = "Pending"  # being prepared: layer, code, S3 user, bucket rules
    ACTIVE = "Active"
    FAILED = "Failed"  # preparing it failed for a reason that waiting does not mend; StateReason says which


class UpdateStatus(StrEnum):
    """AWS's LastUpdateStatus: how far the newest change of a function that is already active has come."""

    IN_PROGRESS = "InProgress"  # being prepared; calls run what was active before
    SUCCESSFUL = "Successful"
    FAILED = "Failed"  # calls go on running what was active before; the reason says what stopped the change


@dataclass(frozen=True, slots=True)
class Statement:
    """One `Allow` statement of a function's policy; `Deny` and conditions are refused at the edge.

    Args:
        actions: `s3:GetObject`, `lambda:InvokeFunction`, with `*` as a wildcard.
        resources: ARNs, with `*` as a wildcard.
    """

    actions: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A function's `requirements.txt` as a layer; `hash` names its content and where it lies.

    Args:
        hash: Hex digest over the requirements' text, the Python version and the platform.
        requirements: The text itself, so that a job can build the layer again after its cache is gone.
        allow_source: Whether packages without a wheel may be built (their `setup.py` runs on this machine).
    """

    hash: str
    requirements: str
    allow_source: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """One function, `$LATEST` of it. Defaults are Lambda's own.

    Args:
        code_sha256: Hex digest of the deployed zip; the name of its unpacked folder and of its stored object.
        code_bytes: Size of that zip.
        reserved_concurrency: At most so many slots; 0 means never run; None means the platform's default.
        retries: How often a function error of an asynchronous invocation is tried again, 0 to 2.
        max_event_age_s: An asynchronous event older than this is given up, 60 to 21,600.
        preload: Modules that the zygote imports ahead of time for this function's layer.
        statements: What the function's own S3 user and API key may do.
        access_key: The function's own key, valid for S3 and for Okiba; its secret lies in the key store.
        revision: Changes with every change of code or configuration; AWS's RevisionId.
        managed_by: Whose hands the function is in: `api`, or the stack that deployed it.
        origin: Where the template lies that it was last deployed from, `HOST:/path`; empty when from none.
        warnings: What its template says that has no effect here; shown by `okiba list` and by deploy.
        last_update: Of a function that is Active: how far its newest change has come.
        last_update_reason: Why it failed, or what it waits for.
        running: The revision that calls run while this one is being prepared, or was refused; None when this one runs,
            or none ever did. It has no `running` of its own.
        invoke_config_ms: When PutFunctionEventInvokeConfig was last called; None if never, or deleted.
        paused: Its asynchronous events wait in the queue, and none is begun; calls are answered as ever.
        generation: Counts every write of the record, also those that leave the revision as it is. Whoever writes a
            record that he read passes it on untouched; the registry compares and increments it.
    """

    name: str
    runtime: str
    handler: str
    code_sha256: str
    code_bytes: int
    revision: str
    last_modified_ms: int
    access_key: str
    role: str = ""
    description: str = ""
    memory_mb: int = 128
    timeout_s: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)
    layer: Layer | None = None
    preload: tuple[str, ...] = ()
    reserved_concurrency: int | None = None
    retries: int = 2
    max_event_age_s: int = 21_600
    bindings: tuple[Binding, ...] = ()
    statements: tuple[Statement, ...] = ()
    state: State = State.PENDING
    state_reason: str = ""
    state_reason_code: str = ""
    managed_by: str = "api"
    origin: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    last_update: UpdateStatus = UpdateStatus.SUCCESSFUL
    last_update_reason: str = ""
    running: Function | None = None
    invoke_config_ms: int | None = None
    paused: bool = False
    generation: int = 0

    @property
    def kind(self) -> str:
        """The warm pool that this function's slots come from first: Python version, and layer if it has one."""
        return f"{self.runtime}+{self.layer.hash}" if self.layer else self.runtime


def to_prepare(function: Function, revision: str, before: Function | None = None) -> Function:
    """The function, changed, as a new revision that the controller has yet to prepare.

    One that is Active stays so, with the update in progress; one that never was is Pending again.

    Args:
        before: The function as it was; None when it is new.
    """
    if function.state is State.ACTIVE:
        status, reason = UpdateStatus.IN_PROGRESS, "The function is being updated."
        changed = replace(function, revision=revision, last_update=status, last_update_reason=reason)
        return replace(changed, running=invocable(before) if before else None)
    pending = replace(function, revision=revision, state=State.PENDING)
    return replace(pending, state_reason="The function is being created.", state_reason_code="Creating")


def invocable(function: Function) -> Function | None:
    """The revision of it that calls run: the newest that has been prepared; None when there is none yet.

    How many slots it may have and how often its events are tried again is the newest record's to say, for it can be
    changed at any time and needs no preparation.
    """
    if function.state is State.ACTIVE and function.last_update is UpdateStatus.SUCCESSFUL:
        return function
    if function.running is None:
        return None
    return replace(
        function.running,
        reserved_concurrency=function.reserved_concurrency,
        retries=function.retries,
        max_event_age_s=function.max_event_age_s,
    )
