"""Every object of every rendering is one that Kubernetes has: kinds, fields and their types."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.chart.cases import CASES
from tests.chart.rendering import KUBE_VERSION, template
from tests.chart.schemas import LOCATION, kubeconform_binary, published, write_schemas


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    swagger = published()
    if swagger is None or kubeconform_binary() is None:
        pytest.skip("no kubeconform, or no module k8s.io/kubernetes: the suite's cluster brings both when it is built")
    folder = tmp_path_factory.mktemp("schemas")
    write_schemas(swagger, folder)
    return folder


def test_kubeconform_finds_nothing_wrong(schemas: Path, tmp_path: Path) -> None:
    binary = kubeconform_binary()
    assert binary
    for case, values in CASES.items():
        (tmp_path / f"{case}.yaml").write_text(template(values))
    # HTTPRoute and ServiceMonitor are other projects'.
    options = ["-strict", "-skip", "HTTPRoute,ServiceMonitor", "-kubernetes-version", KUBE_VERSION]
    argv = [binary, *options, "-schema-location", str(schemas / LOCATION), str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
