"""What `okiba doctor` looks at in an Okiba that runs, wherever it does: by what its gateway tells the administrator.

Each part, each function's state, and whether the object store announces what functions wait for. What a MinIO has to
be told for that is the gateway's answer too, since it knows by which address the store reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from okiba.apps.cli.client import API, OkibaClient
from okiba.apps.local.diagnosis import Finding, Verdict
from okiba.core.errors import OkibaError

PATIENCE_S: Final = 10.0
STORE_PATIENCE_S: Final = 30.0
"""The gateway waits for the object store itself, for 20 s at most."""

PART_ADVICE: Final = {
    "redis": "have Redis answer at the address that the gateway was given",
    "fleet": "the controller is away or still starting; its log says why",
    "controller": "its log says why",
    "jobs": "layers are not built meanwhile; its log says why",
    "minio": "have the object store answer, with the platform's key",
    "slots": "calls wait for slots; the controller's log says why",
}
RULES_ADVICE: Final = "the controller sets rules once a minute; if this stays, its log says why"
TARGET_ADVICE: Final = "give MinIO the settings below, and start it again"


@dataclass(frozen=True, slots=True)
class Examination:
    """All that was found in one Okiba.

    Args:
        minio: What a MinIO has to be told (`environment`, `commands`, `queue_dir`); empty when nobody could say.
    """

    findings: list[Finding]
    minio: Mapping[str, Any] = field(default_factory=dict)


def examine(client: OkibaClient) -> Examination:
    """Every check of a running Okiba; what does not answer is a finding, too."""
    try:
        status = client.get_json(f"{API}/status", wait_s=PATIENCE_S)
        findings = [_gateway(client, status), *_parts(status), *_functions(status)]
    except OkibaError as error:
        advice = "start Okiba, or correct its address or its key"
        return Examination([Finding("gateway", Verdict.FAILED, str(error), advice)])
    try:
        store = client.get_json(f"{API}/store", wait_s=STORE_PATIENCE_S)
        seen, minio = [*_store(store)], store["minio"]
    except OkibaError as error:
        seen, minio = [Finding("object store", Verdict.FAILED, str(error), "see the gateway's log")], {}
    if any(finding.verdict is Verdict.FAILED and finding.check == "object store" for finding in seen):
        findings = [finding for finding in findings if finding.check != "minio"]  # what was told of it is older
    return Examination([*findings, *seen], minio)


def _gateway(client: OkibaClient, status: Mapping[str, Any]) -> Finding:
    seen = f"{client.endpoint} answers; gateways: {status.get('gateways', 1)}, functions: {len(status['functions'])}"
    return Finding("gateway", Verdict.OK, seen)


def _parts(status: Mapping[str, Any]) -> Iterator[Finding]:
    for name, told in status["components"].items():
        if told["ok"]:
            yield Finding(name, Verdict.OK, told["message"] or "well")
        else:
            yield Finding(name, Verdict.FAILED, told["message"], PART_ADVICE.get(name, "its log says why"))


def _functions(status: Mapping[str, Any]) -> Iterator[Finding]:
    for function in status["functions"]:
        if function["state"] == "Failed":
            advice = "mend that, and deploy it again"
            yield Finding(f"function {function['name']}", Verdict.FAILED, function["reason"] or "cannot run", advice)


def _store(store: Mapping[str, Any]) -> Iterator[Finding]:
    if not store["ok"]:
        seen = f"{store['endpoint']}: {store['message']}"
        advice = "have it answer; it must be a MinIO that Okiba may administer"
        yield Finding("object store", Verdict.FAILED, seen, advice)
        return
    yield Finding("object store", Verdict.OK, f"{store['endpoint']} answers")
    for lane in store["lanes"]:
        yield _judged(f"lane {lane['name']}", lane, TARGET_ADVICE)
    for bucket in store["buckets"]:
        message = f"{bucket['message']} ({', '.join(bucket['functions'])})"
        yield _judged(f"bucket {bucket['name']}", {**bucket, "message": message}, RULES_ADVICE)


def _judged(check: str, told: Mapping[str, Any], advice: str) -> Finding:
    if told["ok"]:
        return Finding(check, Verdict.OK, told["message"])
    return Finding(check, Verdict.FAILED, told["message"], advice)
