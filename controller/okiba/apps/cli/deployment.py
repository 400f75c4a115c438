"""Carries a plan out against a running Okiba: looks at what is there, and changes only what differs.

    read  every function's code is packed, its record fetched, every reason to refuse found; nothing is touched
          (so also that the stack's name, if nobody chose it, is that of a stack from somewhere else)
    make  buckets, then for each function: code, configuration, concurrency, asynchronous limits, attachments
    wait  until each changed function is active, telling how its layer comes along

There is no memory of earlier deployments but the functions themselves: what was interrupted is finished by deploying
again, and what somebody changed by hand is put right.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from okiba.adapters.sam_plan import FunctionPlan, Plan
from okiba.apps.cli.client import API, OkibaClient, function_path
from okiba.apps.cli.packing import Package, packed, packed_inline
from okiba.core.errors import CallerError, Conflict, NotFound, PlatformError
from okiba.core.layer import checked_requirements

ROLE: Final = "arn:aws:iam::000000000000:role/okiba"
"""CreateFunction demands a role; what a function may do is in its attachments."""

STACK_TAG: Final = "okiba:stack"
"""Says from the first moment whose a function is, so that a deployment that was interrupted can be gone on with."""

POLL_S: Final = 0.1
ACTIVE_S: Final = 1_800.0
"""A layer with large wheels over a slow line may take a quarter of an hour."""

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of one function.

    Args:
        change: `created`, `updated` or `unchanged`.
        parts: What was updated, such as `code`.
    """

    name: str
    change: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a stack is deployed from: two projects in folders of one name are two, unless somebody says otherwise.

    Args:
        place: `HOST:/path/of/the/template`.
        claims: Whether the stack was named by hand: then this place may take it over from another.
    """

    place: str
    claims: bool


@dataclass(frozen=True, slots=True)
class _Current:
    """One function as wanted, beside what is there of it.

    Args:
        requirements: Of its layer, checked.
        lambda_side: GetFunction's answer; None when there is no such function.
        record: Okiba's own record of it; empty likewise.
    """

    plan: FunctionPlan
    package: Package
    requirements: str
    lambda_side: dict[str, Any] | None
    record: dict[str, Any]


class Deployment:
    """One plan on its way into one Okiba.

    Args:
        told: Called with lines of progress as they come.
    """

    def __init__(self, client: OkibaClient, plan: Plan, origin: Origin, told: Told) -> None:
        self._client = client
        self._plan = plan
        self._origin = origin
        self._told = told
        self._manager = f"stack {plan.stack}"

    def run(self) -> list[Deployed]:
        """Makes the plan true.

        Raises:
            OkibaError: Something refuses or fails; what was done until then stays, and deploying again goes on.
        """
        currents = [self._read(function) for function in self._plan.functions]
        self._check_origin()
        for bucket in self._plan.buckets:
            self._client.put_json(f"{API}/buckets/{quote(bucket, safe='')}", {})
        done = [self._make(current) for current in currents]
        for deployed in done:
            self._await_active(deployed)
        return done

    def forgotten(self) -> list[str]:
        """Names of functions that this stack once deployed and its template has no more."""
        wanted = {function.name for function in self._plan.functions}
        return [record["name"] for record in self._stack() if record["name"] not in wanted]

    def _stack(self) -> list[dict[str, Any]]:
        """The records of all functions that belong to the stack."""
        records = [self._client.function(name) for name in self._client.function_names()]
        return [record for record in records if record.get("managed_by") == self._manager]

    # --- read -----------------------------------------------------------------------------------------------------

    def _read(self, plan: FunctionPlan) -> _Current:
        package = packed(plan.folder) if plan.folder else packed_inline(plan.inline)
        requirements = checked_requirements(package.requirements)
        try:
            lambda_side = self._client.lambda_call("get_function", FunctionName=plan.name)
            record = self._client.function(plan.name)
        except NotFound:
            return _Current(plan, package, requirements, None, {})
        self._check_may_change(plan, lambda_side, record)
        return _Current(plan, package, requirements, lambda_side, record)

    def _check_may_change(self, plan: FunctionPlan, lambda_side: dict[str, Any], record: dict[str, Any]) -> None:
        tags = dict(lambda_side.get("Tags", {}))
        begun_here = tags.pop(STACK_TAG, None) == self._plan.stack
        manager = record.get("managed_by", "api")
        if manager != self._manager and not (manager == "api" and begun_here):
            raise Conflict(
                f"the function {plan.name} exists and is managed by {manager}, not by {self._manager}; choose another "
                f"FunctionName or --stack, or delete it first: okiba delete {plan.name}"
            )
        if tags != dict(plan.tags):
            raise CallerError(
                f"the tags of {plan.name} differ from its template's, and tags are set only when a function is "
                f"created; delete it first: okiba delete {plan.name}"
            )

    def _check_origin(self) -> None:
        """Returns if the stack is this place's, or may become so."""
        stack, here = self._plan.stack, self._origin.place
        origins = {record.get("origin", "") for record in self._stack()} - {"", here}
        if origins and not self._origin.claims:
            raise Conflict(
                f"the stack {stack} was deployed from {min(origins)}, and this is {here}. "
                "To have both, give this one another name: --stack NAME. "
                f"If it is the same one in another place: --stack {stack}"
            )

    # --- make -----------------------------------------------------------------------------------------------------

    def _make(self, current: _Current) -> Deployed:
        if current.lambda_side is None:
            self._told(f"creating {current.plan.name}")
            try:
                self._create(current)
            except Conflict:  # another deployment of this stack was quicker: then it is there to be updated
                current = self._read(current.plan)
                if current.lambda_side is None:
                    raise
            else:
                return Deployed(current.plan.name, "created", ())
        changes = self._changes(current)
        for part, change in changes:
            self._told(f"updating {current.plan.name}: {part}")
            change()
        parts = tuple(part for part, _ in changes)
        return Deployed(current.plan.name, "updated" if parts else "unchanged", parts)

    def _create(self, current: _Current) -> None:
        plan = current.plan
        code, tags = {"ZipFile": current.package.zipped}, {**plan.tags, STACK_TAG: self._plan.stack}
        self._call("create_function", Code=code, Role=ROLE, PackageType="Zip", Tags=tags, **_configuration(plan))
        if plan.reserved_concurrency is not None:
            self._set_concurrency(plan)
        if (plan.retries, plan.max_event_age_s) != (2, 21_600):
            self._set_invoke_config(plan)
        self._attach(current)

    def _changes(self, current: _Current) -> list[tuple[str, Callable[[], object]]]:
        """What differs, each with the call that mends it."""
        plan, name = current.plan, current.plan.name
        found = current.lambda_side or {}
        configuration = _configuration(plan)
        changes: list[tuple[str, Callable[[], object]]] = []
        if found["Configuration"]["CodeSha256"] != current.package.sha256:
            zipped = current.package.zipped
            changes.append(("code", lambda: self._call("update_function_code", FunctionName=name, ZipFile=zipped)))
        if _configured(found["Configuration"]) != configuration:
            changes.append(("configuration", lambda: self._call("update_function_configuration", **configuration)))
        if found.get("Concurrency", {}).get("ReservedConcurrentExecutions") != plan.reserved_concurrency:
            changes.append(("concurrency", lambda: self._set_concurrency(plan)))
        if (current.record["retries"], current.record["max_event_age_s"]) != (plan.retries, plan.max_event_age_s):
            changes.append(("retries", lambda: self._set_invoke_config(plan)))
        if current.record["state"] == "Failed" or self._attached(current.record) != self._attachments(current):
            changes.append(("events, policies and layer", lambda: self._attach(current)))
        elif current.record.get("origin") != self._origin.place:
            changes.append(("origin", lambda: self._attach(current)))
        return changes

    def _call(self, operation: str, **parameters: Any) -> None:
        self._client.lambda_call(operation, **parameters)

    def _set_concurrency(self, plan: FunctionPlan) -> None:
        if plan.reserved_concurrency is None:
            self._call("delete_function_concurrency", FunctionName=plan.name)
        else:
            reserved = plan.reserved_concurrency
            self._call("put_function_concurrency", FunctionName=plan.name, ReservedConcurrentExecutions=reserved)

    def _set_invoke_config(self, plan: FunctionPlan) -> None:
        self._call(
            "put_function_event_invoke_config",
            FunctionName=plan.name,
            MaximumRetryAttempts=plan.retries,
            MaximumEventAgeInSeconds=plan.max_event_age_s,
        )

    def _attach(self, current: _Current) -> None:
        wanted = {**self._attachments(current), "origin": self._origin.place}
        self._client.put_json(f"{function_path(current.plan.name)}/attachments", wanted)

    def _attachments(self, current: _Current) -> dict[str, object]:
        plan = current.plan
        return {
            "bindings": [_unaged(_as_json(binding)) for binding in plan.bindings],
            "statements": [_as_json(statement) for statement in plan.statements],
            "requirements": current.requirements,
            "allow_source": plan.allow_source and bool(current.requirements),
            "preload": list(plan.preload),
            "managed_by": self._manager,
            "warnings": list(plan.warnings),
        }

    def _attached(self, record: dict[str, Any]) -> dict[str, object]:
        """The attachments that a record has, spelled as they are sent."""
        layer = record.get("layer") or {}
        return {
            "requirements": layer.get("requirements", ""),
            "allow_source": layer.get("allow_source", False),
            "bindings": [_unaged(binding) for binding in record["bindings"]],
            **{key: record.get(key) for key in ("statements", "preload", "managed_by", "warnings")},
        }

    # --- wait -----------------------------------------------------------------------------------------------------

    def _await_active(self, deployed: Deployed) -> None:
        record = self._settled(deployed.name)
        reason = record.get("state_reason") or record.get("last_update_reason") or "no reason was given"
        if record["state"] != "Active":
            raise CallerError(f"{deployed.name} is {record['state']}: {reason}")
        if record.get("last_update") == "Failed":
            raise CallerError(f"{deployed.name} still runs what it ran before: {reason}")

    def _settled(self, name: str) -> dict[str, Any]:
        """The function's record once preparing it has ended, well or not."""
        deadline = time.monotonic() + ACTIVE_S
        told = ""
        while True:
            record = self._client.function(name)
            if not _is_moving(record):
                return record
            line = f"{name}: {_progress(record)}"
            if line != told:
                self._told(line)
                told = line
            if time.monotonic() > deadline:
                raise PlatformError(f"{line}; not active after {ACTIVE_S:.0f} s, see: okiba list")
            time.sleep(POLL_S)


def _configuration(plan: FunctionPlan) -> dict[str, Any]:
    """The parameters that CreateFunction and UpdateFunctionConfiguration share."""
    return {
        "FunctionName": plan.name,
        "Runtime": plan.runtime,
        "Handler": plan.handler,
        "Description": plan.description,
        "MemorySize": plan.memory_mb,
        "Timeout": plan.timeout_s,
        "Environment": {"Variables": dict(plan.environment)},
    }


def _configured(found: dict[str, Any]) -> dict[str, Any]:
    """The same of a function that is there; Lambda leaves empty things out of its answers."""
    variables = found.get("Environment", {}).get("Variables", {})
    names = ("FunctionName", "Runtime", "Handler", "MemorySize", "Timeout")
    description = found.get("Description", "")
    return {
        **{name: found[name] for name in names},
        "Description": description,
        "Environment": {"Variables": variables},
    }


def _unaged(binding: Mapping[str, Any]) -> dict[str, Any]:
    """Without its age, which is the platform's to say."""
    return {name: value for name, value in binding.items() if name != "since_ms"}


def _as_json(value: Any) -> dict[str, object]:
    """A binding or statement with lists instead of tuples, as it looks after a journey as JSON."""
    fields = dataclasses.asdict(value)
    return {key: list(field) if isinstance(field, tuple) else field for key, field in fields.items()}


def _is_moving(record: dict[str, Any]) -> bool:
    return record["state"] == "Pending" or record.get("last_update") == "InProgress"


def _progress(record: dict[str, Any]) -> str:
    """What preparing the function is at."""
    layer = record.get("layer") or {}
    phase = layer.get("phase", "ready")
    if phase == "unknown":
        return "layer not begun yet"
    if phase != "ready":
        progress = f": {layer['progress']}" if layer.get("progress") else ""
        said = str(layer.get("error") or "").strip().splitlines()
        return f"layer {phase}{progress}" + (f" (the last attempt failed: {said[-1]})" if said else "")
    return str(record.get("state_reason") or record.get("last_update_reason") or "being prepared")
