"""The pods that the chart asks for: hardened, told what they need to know, and no secret that they do not use."""

from __future__ import annotations

import base64
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from okiba.adapters.kube_pods import PodChoices
from okiba.core.notification import minio_notify_environment
from okiba.core.slot_kind import SlotKind
from okiba.settings import Settings
from tests.chart.cases import CASES, DIGEST
from tests.chart.rendering import Document, containers, environment, find, pod_specs, render

NOT_SETTINGS = {"OKIBA_ADMIN_ACCESS_KEY", "OKIBA_ADMIN_SECRET_KEY"}
"""What the bootstrap container alone is told."""


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_locked_in(case: str) -> None:
    for name, spec in pod_specs(render(CASES[case])):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert all("hostPath" not in volume for volume in spec.get("volumes", [])), name
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name


@pytest.mark.parametrize("case", CASES)
def test_every_variable_of_okiba_is_a_setting(case: str) -> None:
    known = {f"OKIBA_{field.name.upper()}" for field in fields(Settings)} | NOT_SETTINGS
    for name, spec in pod_specs(render(CASES[case])):
        for container in containers(spec):
            ours = {variable for variable in environment(container) if variable.startswith("OKIBA_")}
            assert ours <= known, name


def _secrets(spec: Document) -> dict[str, set[str]]:
    """Per container, the keys of the Secret that it gets."""
    return {
        container["name"]: {
            source["secretKeyRef"]["key"]
            for source in environment(container).values()
            if isinstance(source, dict) and "secretKeyRef" in source
        }
        for container in containers(spec)
    }


def test_a_container_gets_the_secrets_that_it_uses_and_no_other(defaults: list[Document]) -> None:
    store, redis = {"s3-access-key", "s3-secret-key"}, {"redis-url"}
    seen: dict[str, set[str]] = {}
    for _, spec in pod_specs(defaults):
        seen |= _secrets(spec)
    assert seen == {
        "gateway": redis | store | {"platform-key", "webhook-token"},
        "bootstrap": redis | store | {"platform-key", "admin-access-key", "admin-secret-key"},
        "controller": redis | store | {"platform-key"},
        "jobs": redis | store,
        "beat": redis,
        "valkey": {"redis-password"},
        "minio": store | {"webhook-token"},
        "test": {"admin-access-key", "admin-secret-key"},
        "let-go": set(),
    }


def test_the_generated_secret_has_every_key_and_each_fits(defaults: list[Document]) -> None:
    data = {
        key: base64.b64decode(value).decode()
        for key, value in find(defaults, "Secret", "okiba-credentials")["data"].items()
    }
    used = set().union(*(keys for _, spec in pod_specs(defaults) for keys in _secrets(spec).values()))
    assert used == data.keys()
    assert len(bytes.fromhex(data["platform-key"])) == 32
    host = "okiba-valkey.okiba-chart-test.svc.cluster.local"
    assert data["redis-url"] == f"redis://:{data['redis-password']}@{host}:6379/0"
    assert all(len(value) >= 20 for value in data.values())


def test_minio_is_told_of_both_lanes_as_on_one_machine(defaults: list[Document]) -> None:
    [container] = find(defaults, "StatefulSet", "okiba-minio")["spec"]["template"]["spec"]["containers"]
    seen = {name: value for name, value in environment(container).items() if name.startswith("MINIO_NOTIFY")}
    base = "http://okiba-admin.okiba-chart-test.svc.cluster.local:4567"
    expected: dict[str, Any] = minio_notify_environment(base, "", Path("/data/queue"))
    token = {"secretKeyRef": {"name": "okiba-credentials", "key": "webhook-token"}}
    assert seen == {
        name: token if "AUTH_TOKEN" in name else value
        for name, value in expected.items()
        if name.startswith("MINIO_NOTIFY")
    }


def test_a_variable_stands_behind_those_that_it_is_made_of(defaults: list[Document]) -> None:
    for name, spec in pod_specs(defaults):
        for container in containers(spec):
            seen: set[str] = set()
            for entry in container.get("env", []):
                if "$(POD_IP)" in entry.get("value", ""):
                    assert "POD_IP" in seen, name
                assert entry["name"] not in seen, name
                seen.add(entry["name"])


def test_servers_of_ones_own_turn_the_bundled_ones_off() -> None:
    documents = render(CASES["external servers by name"])
    assert not [one for one in documents if one["kind"] == "StatefulSet"]
    url = base64.b64decode(find(documents, "Secret", "okiba-credentials")["data"]["redis-url"]).decode()
    assert url == "redis://okiba:pass@redis.example.org:6380/0"
    gateway = find(documents, "Deployment", "okiba-gateway")["spec"]["template"]["spec"]["containers"][0]
    assert environment(gateway)["OKIBA_S3_ENDPOINT"] == "https://minio.example.org:9000"
    assert environment(gateway)["OKIBA_S3_FUNCTION_ENDPOINT"] == "https://s3.example.org"


def test_a_password_given_as_a_value_is_in_the_secret_alone() -> None:
    documents = [one for one in render(CASES["external servers by name"]) if one["kind"] != "Secret"]
    assert "not-a-secret" not in json.dumps(documents)
    assert "okiba:pass" not in json.dumps(documents)


def test_a_change_of_the_redis_url_replaces_pods() -> None:
    def mark(url: str) -> str:
        template = find(render({"redis": {"external": {"url": url}}}), "Deployment", "okiba-jobs")["spec"]["template"]
        return str(template["metadata"]["annotations"])

    assert mark("redis://a:6379/0") != mark("redis://b:6379/0")


def test_a_budget_is_for_more_than_one_replica() -> None:
    alone = render(CASES["one replica of each, nothing persistent"])
    assert not [one for one in alone if one["kind"] == "PodDisruptionBudget"]


def test_images_come_from_the_mirror_by_digest() -> None:
    documents = render(CASES["a mirror, with digests and pull secrets"])
    images = {container["image"] for _, spec in pod_specs(documents) for container in containers(spec)}
    mirror = "registry.example.org:5000/okiba"
    assert images == {f"{mirror}/control@{DIGEST}", f"{mirror}/okiba-minio:0.1.0"}
    assert all(spec["imagePullSecrets"] == [{"name": "mirror"}] for _, spec in pod_specs(documents))


def _choices(values: dict[str, Any], folder: Path) -> PodChoices:
    """What the controller reads of the chart's file."""
    documents = render(values)
    path = folder / "slot-pod.json"
    path.write_text(find(documents, "ConfigMap", "okiba-slot-pod")["data"]["slot-pod.json"])
    controller = find(documents, "Deployment", "okiba-controller")["spec"]["template"]["spec"]["containers"][0]
    return PodChoices.read(environment(controller)["OKIBA_SLOT_IMAGE"], path)


def test_the_controller_reads_where_slots_may_run(tmp_path: Path) -> None:
    values = CASES["slots placed and isolated"]
    spec = dict(_choices(values, tmp_path).spec)
    slots = {"app.kubernetes.io/part-of": "okiba", "app.kubernetes.io/component": "slot"}
    spread = [{**one, "labelSelector": {"matchLabels": slots}} for one in values["slots"]["topologySpreadConstraints"]]
    chosen = {name: value for name, value in values["slots"].items() if name != "image"}
    assert spec == {**chosen, "topologySpreadConstraints": spread, "serviceAccountName": "okiba-slot"}


def test_the_controller_reads_slots_images(tmp_path: Path) -> None:
    choices = _choices(CASES["a mirror, with digests and pull secrets"], tmp_path)
    assert choices.image_of(SlotKind.parse("python3.11/128")) == f"slots.example.org/slot@{DIGEST}"
    assert choices.image_of(SlotKind.parse("python3.12/128")) == "slots.example.org/slot:0.1.0-python3.12"
    assert choices.pull_policy == "Never"
    assert choices.spec["imagePullSecrets"] == [{"name": "mirror"}]


def test_the_controller_reads_what_the_site_is_like(tmp_path: Path) -> None:
    choices = _choices(CASES["another site"], tmp_path)
    assert choices.ca_config_map == "okiba-ca"
    assert choices.environment["HTTPS_PROXY"] == "http://proxy:3129"
    assert choices.environment["NO_PROXY"].split(",")[-2:] == [".svc.site.example", "intra.example.org"]


def _hooks(values: dict[str, Any]) -> dict[str, Document]:
    hooked = [one for one in render(values) if "pre-delete" in str(one["metadata"].get("annotations"))]
    return {one["kind"]: one for one in hooked}


def test_uninstalling_has_nothing_to_do_where_the_store_goes_too() -> None:
    assert _hooks({}) == {}


def test_uninstalling_takes_okibas_rules_out_of_an_external_store() -> None:
    hooks = _hooks(CASES["external servers by name"])
    assert hooks.keys() == {"Job", "ServiceAccount"}
    spec = hooks["Job"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["command"] == ["python", "-m", "okiba.apps.uninstall"]
    assert spec["automountServiceAccountToken"] is False


def test_functions_are_let_go_before_their_namespace_goes() -> None:
    hooks = _hooks(CASES["gone without a trace"])
    assert hooks.keys() == {"Job", "ServiceAccount", "Role", "RoleBinding"}
    spec = hooks["Job"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["command"][-2:] == ["--functions", "okiba-functions"]
    assert hooks["Role"]["rules"] == [
        {"apiGroups": ["okiba.dev"], "resources": ["functions"], "verbs": ["list", "deletecollection"]}
    ]


def test_what_a_gateway_has_to_finish_follows_from_its_pod_s_grace(defaults: list[Document]) -> None:
    given = render({"gateway": {"terminationGracePeriodSeconds": 900, "drainSeconds": 10}})
    for documents, grace_ms in ((defaults, "37000"), (given, "887000")):
        spec = dict(pod_specs(documents))["Deployment/okiba-gateway"]
        assert environment(containers(spec)[0])["OKIBA_GRACE_MS"] == grace_ms


def test_gateway_and_controller_are_asked_how_they_are(defaults: list[Document]) -> None:
    for name in ("gateway", "controller"):
        (container, *_) = containers(dict(pod_specs(defaults))[f"Deployment/okiba-{name}"])
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["admin"] == 4567
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] == "admin"


def test_prometheus_may_ask_gateways_and_controllers_once_it_is_let_in() -> None:
    monitoring = [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]
    documents = render({"networkPolicy": {"adminFrom": monitoring}})
    for name in ("gateway", "controller"):
        policy = find(documents, "NetworkPolicy", f"okiba-{name}")
        let_in = [rule["from"] for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == 4567]
        assert monitoring[0] in let_in[0]
