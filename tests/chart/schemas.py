"""JSON schemas of Kubernetes' objects for kubeconform, made from what the Go module of Kubernetes brings along.

The suite's cluster is built from that module, so wherever it was, the schemas are too; nothing is fetched for them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SWAGGER = "k8s.io/kubernetes@v1.34.4/api/openapi-spec/swagger.json"

LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"

_AMOUNT = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_EITHER = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"


def kubeconform_binary() -> str | None:
    """The kubeconform to test with: OKIBA_KUBECONFORM, else the suite's own, else PATH."""
    cached = Path.home() / ".cache/okiba/cluster/bin/kubeconform"
    named = os.environ.get("OKIBA_KUBECONFORM") or (str(cached) if cached.exists() else None)
    return named or shutil.which("kubeconform")


def published() -> Path | None:
    """Kubernetes' own description of its objects, if this machine has it."""
    if shutil.which("go") is None:
        return None
    asked = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, timeout=30, check=True)
    path = Path(asked.stdout.strip()) / SWAGGER
    return path if path.is_file() else None


def write_schemas(swagger: Path, folder: Path) -> None:
    """One schema a kind in `folder`, all of them strict: a field that Kubernetes does not know is an error."""
    definitions = json.loads(swagger.read_text())["definitions"]
    for definition in definitions.values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    definitions[_AMOUNT] = definitions[_EITHER] = {"type": ["string", "number"]}
    (folder / "_definitions.json").write_text(json.dumps({"definitions": definitions}))
    for name, definition in definitions.items():
        for file in _files(definition):
            (folder / file).write_text(json.dumps({"$ref": f"_definitions.json#/definitions/{name}"}))


def _files(definition: dict[str, Any]) -> Iterator[str]:
    for kind in definition.get("x-kubernetes-group-version-kind", []):
        group = kind["group"].split(".")[0]
        yield "-".join(filter(None, [kind["kind"], group, kind["version"]])).lower() + ".json"
