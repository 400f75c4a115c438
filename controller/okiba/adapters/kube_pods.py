"""Pods of slots as Kubernetes spells them: the manifest of a new one, what a pod's document says, what is recorded.

    okiba-slot-k3x9…           labels: part-of okiba, component slot, kind, memory, layer (shortened)
      slot-0 … slot-7          one container a slot, listening on 9100 … 9107
      okiba.dev/slot-kind      annotation: the pool that it was made for, whole
      okiba.dev/holding        annotation: whose it has become, JSON {function, revision, slots}

A function names nothing here: not an image, a volume or an account (there is no passing through); the operator's
choices come from a file of the chart's. No credential, token or variable of the platform is in a pod.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from okiba.core.errors import InvalidParameter
from okiba.core.layer import BASE_PRELOAD
from okiba.core.pod_plan import Share
from okiba.core.slot_kind import SlotKind
from okiba.core.slot_pod import NOBODYS, SLOT_PORT, Holding, PodSeen, SlotPhase, SlotSeen

Document = dict[str, Any]

SELECTOR: Final = "app.kubernetes.io/part-of=okiba,app.kubernetes.io/component=slot"
PACKAGES: Final = "/opt/okiba/packages"
"""Where a slot's image has boto3 and minio, the base layer of its Python version."""

KIND: Final = "okiba.dev/slot-kind"
HOLDING: Final = "okiba.dev/holding"

USER: Final = 65532
TMP_MB: Final = 512
"""Lambda's /tmp."""
CODE_MB: Final = 1_024
"""Fetched code and layers: 250 MB unpacked each on Lambda, and their zips beside them."""
GRACE_S: Final = 30
"""When somebody else ends a pod (a drained node): no more than Kubernetes' own default."""
_CA_FOLDER: Final = "/etc/okiba/ca"

_STUCK: Final = frozenset(
    {
        "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
        "RegistryUnavailable", "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PodChoices:
    """What the operator decides about slots' pods, as the chart writes it (OKIBA_SLOT_POD).

    Args:
        anchor: Name of the ConfigMap that owns every pod.
        images: Images by digest, per Python version; others are `image` with `{python}` replaced.
        spec: Fields of the pod's spec: pull secrets, account, runtime class, where it may run.
        ca_config_map: ConfigMap with the private CA's `ca.crt`, or empty.
        environment: Variables of the agents, such as a proxy's; functions get none of them.
    """

    image: str
    anchor: str = "okiba-slots"
    images: Mapping[str, str] = field(default_factory=dict)
    pull_policy: str = "IfNotPresent"
    spec: Mapping[str, Any] = field(default_factory=dict)
    ca_config_map: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, image: str, path: Path) -> PodChoices:
        """The choices in the chart's file; the defaults if there is no such file.

        Raises:
            InvalidParameter: It is no such JSON.
        """
        if not path.is_file():
            return cls(image)
        try:
            chosen = json.loads(path.read_text())
            return cls(
                image,
                chosen.get("anchor") or "okiba-slots",
                chosen.get("images") or {},
                chosen.get("imagePullPolicy") or "IfNotPresent",
                {name: chosen[name] for name in _SPEC_FIELDS if chosen.get(name)},
                chosen.get("caConfigMap") or "",
                chosen.get("environment") or {},
            )
        except (ValueError, AttributeError) as error:
            raise InvalidParameter(f"OKIBA_SLOT_POD: {path} should be a JSON object: {error}") from error

    def image_of(self, kind: SlotKind) -> str:
        """The image of this Python version's slots."""
        return self.images.get(kind.python) or self.image.replace("{python}", kind.python)


_SPEC_FIELDS: Final = (
    "imagePullSecrets", "serviceAccountName", "runtimeClassName", "priorityClassName", "nodeSelector", "tolerations",
    "affinity", "topologySpreadConstraints",
)  # fmt: skip


def new_pod_name() -> str:
    """Of a pod that is yet to be made; unique for ever, for slots are named after it."""
    return f"okiba-slot-{secrets.token_hex(6)}"


def manifest(
    name: str, kind: SlotKind, slots: int, share: Share, choices: PodChoices, anchor: Document | None
) -> Document:
    """A pod of so many slots, as it is sent.

    Args:
        anchor: The ConfigMap that owns it, so that nothing stays behind when the chart is removed.
    """
    labels = {
        "app.kubernetes.io/part-of": "okiba",
        "app.kubernetes.io/component": "slot",
        "okiba.dev/kind": kind.runtime,
        "okiba.dev/memory": str(kind.memory_mb),
        **({"okiba.dev/layer": kind.layer[:40]} if kind.layer else {}),
    }
    owners = {"ownerReferences": [_owner(anchor)]} if anchor else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": {KIND: str(kind)}, **owners},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **choices.spec,
            "containers": [_container(number, kind, share, choices) for number in range(slots)],
            "volumes": [volume for number in range(slots) for volume in _volumes(number)] + _ca_volume(choices),
        },
    }


def _container(number: int, kind: SlotKind, share: Share, choices: PodChoices) -> Document:
    listen = f"tcp:0.0.0.0:{SLOT_PORT + number}"
    return {
        "name": f"slot-{number}",
        "image": choices.image_of(kind),
        "imagePullPolicy": choices.pull_policy,
        "args": ["--listen", listen, "--echo", "--preload-path", PACKAGES, "--preload", ",".join(BASE_PRELOAD)],
        "ports": [{"name": f"slot-{number}", "containerPort": SLOT_PORT + number}],
        "env": [{"name": name, "value": value} for name, value in _variables(choices).items()],
        "resources": {
            "requests": {
                "cpu": f"{share.requested_cpu_m}m",
                "memory": f"{share.requested_memory_mb}Mi",
                "ephemeral-storage": "16Mi",
            },
            "limits": {
                "cpu": f"{share.cpu_m}m",
                "memory": f"{share.memory_mb}Mi",
                "ephemeral-storage": f"{TMP_MB + CODE_MB}Mi",
            },
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": f"tmp-{number}", "mountPath": "/tmp"},  # noqa: S108 (the slot's own, not this process's)
            {"name": f"okiba-{number}", "mountPath": "/var/okiba"},
            *([{"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True}] if choices.ca_config_map else []),
        ],
    }


def _variables(choices: PodChoices) -> dict[str, str]:
    certificate = f"{_CA_FOLDER}/ca.crt"
    names = ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
    trust = dict.fromkeys(names, certificate) if choices.ca_config_map else {}
    return {**choices.environment, **trust}


def _volumes(number: int) -> list[Document]:
    return [
        {"name": f"tmp-{number}", "emptyDir": {"sizeLimit": f"{TMP_MB}Mi"}},
        {"name": f"okiba-{number}", "emptyDir": {"sizeLimit": f"{CODE_MB}Mi"}},
    ]


def _ca_volume(choices: PodChoices) -> list[Document]:
    return [{"name": "ca", "configMap": {"name": choices.ca_config_map}}] if choices.ca_config_map else []


def _owner(anchor: Document) -> Document:
    metadata = anchor["metadata"]
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"]}


# --- what is recorded, and read again --------------------------------------------------------------------------------


def holding_patch(holding: Holding) -> Document:
    """Whose the pod has become: exactly in an annotation, and in labels for people, as far as labels can say it."""
    record = {"function": holding.function, "revision": holding.revision, "slots": sorted(holding.slots)}
    labels = {"okiba.dev/function": _label(holding.function), "okiba.dev/revision": _label(holding.revision)}
    return {"metadata": {"annotations": {HOLDING: json.dumps(record, separators=(",", ":"))}, "labels": labels}}


def resize_patch(slots: int, share: Share) -> Document:
    """What every container of a pod may use from now on, as the `resize` subresource takes it."""
    resources = {"requests": {"cpu": f"{share.requested_cpu_m}m"}, "limits": {"cpu": f"{share.cpu_m}m"}}
    return {"spec": {"containers": [{"name": f"slot-{number}", "resources": resources} for number in range(slots)]}}


def _label(text: str) -> str:
    """The text as a label's value: at most 63 characters, a letter or digit at both ends."""
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63])


def pod_seen(document: Document) -> PodSeen | None:
    """What a pod's document says; None of one that is no slot's, or that nobody could have made here."""
    metadata, status = document["metadata"], document.get("status") or {}
    annotations = metadata.get("annotations") or {}
    containers = document["spec"]["containers"]
    if KIND not in annotations or not containers:
        return None
    try:
        kind = SlotKind.parse(annotations[KIND])
    except ValueError:
        return None
    return PodSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        kind=kind,
        slots=_slots_seen(len(containers), status),
        ip=status.get("podIP") or "",
        node=document["spec"].get("nodeName") or "",
        created_ms=_milliseconds(metadata.get("creationTimestamp")),
        ending=bool(metadata.get("deletionTimestamp")),
        lost=_is_lost(status),
        trouble=_trouble(status),
        holding=_holding(annotations.get(HOLDING)),
    )


def _slots_seen(count: int, status: Mapping[str, Any]) -> tuple[SlotSeen, ...]:
    over = status.get("phase") in ("Failed", "Succeeded")
    reason = str(status.get("reason") or "")
    seen = dict.fromkeys(range(count), SlotSeen(SlotPhase.ENDED, reason or "PodEnded", 1) if over else SlotSeen())
    for told in status.get("containerStatuses") or []:
        number = told["name"].removeprefix("slot-")
        if number.isdigit() and int(number) in seen:
            seen[int(number)] = _slot_seen(told.get("state") or {}, reason, seen[int(number)])
    return tuple(seen[number] for number in range(count))


def _slot_seen(state: Mapping[str, Any], pod_reason: str, otherwise: SlotSeen) -> SlotSeen:
    if "terminated" in state:
        end = state["terminated"]
        return SlotSeen(SlotPhase.ENDED, pod_reason or end.get("reason") or "", int(end.get("exitCode") or 0))
    return SlotSeen(SlotPhase.RUNNING) if "running" in state else otherwise


def _is_lost(status: Mapping[str, Any]) -> bool:
    """Every container was ready when last heard of, and the pod is not: the cluster has not heard of its node."""
    containers = status.get("containerStatuses") or []
    conditions = {told["type"]: told.get("status") for told in status.get("conditions") or []}
    return bool(containers) and all(told.get("ready") for told in containers) and conditions.get("Ready") == "False"


def _trouble(status: Mapping[str, Any]) -> str:
    for told in status.get("containerStatuses") or []:
        waiting = (told.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            return f"{waiting['reason']}: {waiting.get('message') or told.get('image') or ''}"[:500]
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason') or 'Unschedulable'}: {condition.get('message') or ''}"[:500]
    return ""


def _holding(text: str | None) -> Holding:
    try:
        record = json.loads(text or "")
        return Holding(str(record["function"]), str(record["revision"]), frozenset(map(int, record["slots"])))
    except (ValueError, KeyError, TypeError):
        return NOBODYS


def _milliseconds(timestamp: str | None) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp() * 1000) if timestamp else 0
