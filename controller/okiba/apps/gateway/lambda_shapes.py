"""Functions as Lambda's API tells of them; shapes and defaults are AWS's."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, Final

from okiba.core.function import LATEST, Function, State, UpdateStatus
from okiba.core.names import Home

# What ListFunctions leaves out, as AWS does.
_STATES: Final = (
    "State", "StateReason", "StateReasonCode",
    "LastUpdateStatus", "LastUpdateStatusReason", "LastUpdateStatusReasonCode",
)  # fmt: skip


def configuration(function: Function, home: Home, machine: str, qualifier: str = "") -> dict[str, Any]:
    """A FunctionConfiguration.

    Args:
        machine: `x86_64` or `arm64`.
        qualifier: As the caller gave it; his ARN then has it too.
    """
    content: dict[str, Any] = {
        "FunctionName": function.name,
        "FunctionArn": home.arn(function.name, qualifier),
        "Runtime": function.runtime,
        "Role": function.role,
        "Handler": function.handler,
        "CodeSize": function.code_bytes,
        "Description": function.description,
        "Timeout": function.timeout_s,
        "MemorySize": function.memory_mb,
        "LastModified": modified(function.last_modified_ms),
        "CodeSha256": base64.b64encode(bytes.fromhex(function.code_sha256)).decode(),
        "Version": LATEST,
        "RevisionId": function.revision,
        "TracingConfig": {"Mode": "PassThrough"},
        "PackageType": "Zip",
        "Architectures": [machine],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.name}"},
    }
    if function.environment:
        content["Environment"] = {"Variables": dict(function.environment)}
    return content | _states(function)


def listed(function: Function, home: Home, machine: str, qualifier: str = "") -> dict[str, Any]:
    """A FunctionConfiguration as ListFunctions has it: without states."""
    content = configuration(function, home, machine, qualifier)
    return {name: value for name, value in content.items() if name not in _STATES}


def event_invoke_config(function: Function, home: Home) -> dict[str, Any]:
    """A FunctionEventInvokeConfig; what was not said has its default."""
    return {
        "LastModified": (function.invoke_config_ms or 0) / 1000,
        "FunctionArn": home.arn(function.name, LATEST),
        "MaximumRetryAttempts": function.retries,
        "MaximumEventAgeInSeconds": function.max_event_age_s,
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
    }


def modified(time_ms: int) -> str:
    """A time as LastModified spells it: `2026-11-22T16:40:49.000+0000`."""
    seconds, millis = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03}+0000"


def _states(function: Function) -> dict[str, str]:
    told = {"State": function.state.value}
    if function.state is not State.ACTIVE:
        return told | _present(StateReason=function.state_reason, StateReasonCode=function.state_reason_code)
    told["LastUpdateStatus"] = function.last_update.value
    if function.last_update is UpdateStatus.SUCCESSFUL:
        return told
    code = "Creating" if function.last_update is UpdateStatus.IN_PROGRESS else "InvalidConfiguration"
    return told | _present(LastUpdateStatusReason=function.last_update_reason, LastUpdateStatusReasonCode=code)


def _present(**reasons: str) -> dict[str, str]:
    return {name: reason for name, reason in reasons.items() if reason}
