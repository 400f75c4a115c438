"""helm, and what it makes of the chart."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts/okiba"
NAMESPACE = "okiba-chart-test"
KUBE_VERSION = "1.34.0"

Values = Mapping[str, Any]
Document = dict[str, Any]
Leaf = tuple[str, ...]


class HelmRefused(Exception):
    """helm ended with an error; the message is what it said."""


def helm_binary() -> str | None:
    """The helm to test with: OKIBA_HELM, else the suite's own, else PATH."""
    cached = Path.home() / ".cache/okiba/cluster/bin/helm"
    return os.environ.get("OKIBA_HELM") or (str(cached) if cached.exists() else None) or shutil.which("helm")


def helm(*arguments: str, values: Values | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What helm wrote.

    Raises:
        HelmRefused: It ended with an error.
    """
    binary = helm_binary()
    assert binary, "no helm: set OKIBA_HELM, or start the suite's cluster once, which builds it"
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values or {}), file)
        file.flush()
        argv = [binary, *arguments, "--values", file.name]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(environment or {})}
        )
    if done.returncode:
        raise HelmRefused(done.stderr + done.stdout)
    return done.stdout


def render(values: Values | None = None) -> list[Document]:
    """Every object of a rendering, hooks too."""
    return [document for document in yaml.load_all(template(values), yaml.CSafeLoader) if document]


def template(values: Values | None = None) -> str:
    """What `helm template` writes."""
    return _template(json.dumps(values or {}))


@cache
def _template(values: str) -> str:
    where = ("--namespace", NAMESPACE, "--kube-version", KUBE_VERSION)
    return helm("template", "okiba", str(CHART), *where, values=json.loads(values))


def reproducible(values: Values) -> str:
    """A rendering without what helm makes up at random: keys, and the bundled Valkey's URL with its password in it."""
    made_up = r"(?m)^  (admin-.*-key|platform-key|webhook-token|redis-password): \S+$|^  redis-url: cmVkaXM6Ly86\S+$"
    return re.sub(made_up, "", template(values))


def refusal(values: Values) -> str:
    """Why helm does not render this; empty when it does."""
    try:
        render(values)
    except HelmRefused as refused:
        return str(refused)
    return ""


def find(documents: list[Document], kind: str, name: str) -> Document:
    """The one object of a kind and name."""
    [found] = [one for one in documents if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pod_specs(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Every pod that the objects ask for, as (kind/name, spec)."""
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] == "Pod":
            yield name, document["spec"]
        elif "template" in document.get("spec", {}):
            yield name, document["spec"]["template"]["spec"]


def containers(spec: Document) -> list[Document]:
    """A pod's containers, those that run first included."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(container: Document) -> dict[str, Any]:
    """A container's variables: text, or where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", [])}


def documented_leaves() -> list[Leaf]:
    """Every value that values.yaml has, by its path; a map or list that is empty there is one value."""
    return list(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))


def leaves(values: Any, path: Leaf = ()) -> Iterator[Leaf]:
    """The paths of all that is no map, or an empty one."""
    if isinstance(values, dict) and values:
        for name, value in values.items():
            yield from leaves(value, (*path, name))
    else:
        yield path


def at(values: Any, leaf: Leaf) -> Any:
    """The value at a path; None when there is none."""
    for name in leaf:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def without(values: Any, leaf: Leaf) -> Any:
    """The values with one path less."""
    first, *rest = leaf
    if not rest:
        return {name: value for name, value in values.items() if name != first}
    return {name: without(value, tuple(rest)) if name == first else value for name, value in values.items()}
