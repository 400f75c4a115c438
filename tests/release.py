"""A whole Okiba on a cluster: the chart installed with helm into namespaces of a test's own, removed with everything.

It answers to the same calls as `tests.installation.Installation`, so that one suite runs against both.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from okiba.apps.local.tools import cache_dir
from tests.cluster.access import Cluster
from tests.cluster.layout import NODES
from tests.cluster.making.images import load, product
from tests.cluster.making.programs import HELM
from tests.installation import Talks, metric_in

CHART = Path(__file__).parents[1] / "charts" / "okiba"
WHEELS = cache_dir(os.environ) / "wheels"
REQUIREMENTS = Path(__file__).parents[1] / "examples" / "01-thumbnails" / "src" / "requirements.txt"
READY_S = 300
_METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:4567/metrics').read().decode())"
COMPONENTS = ("gateway", "controller", "jobs", "beat", "valkey", "minio")


@dataclass
class Release(Talks):
    """One release of the chart, with the bundled Valkey and MinIO unless told otherwise.

    Args:
        namespace: The release's; functions live in `<namespace>-functions`.
        environment: What the CLI is run with.
    """

    cluster: Cluster
    namespace: str
    environment: dict[str, str] = field(default_factory=dict)
    forwards: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def functions(self) -> str:
        """The functions' namespace."""
        return f"{self.namespace}-functions"

    # --- helm ---------------------------------------------------------------------------------------------------------

    def helm(self, *arguments: str, stdin: str = "", seconds: float = READY_S) -> str:
        """Runs helm in the release's namespace."""
        command = [str(HELM.path), "--namespace", self.namespace, *arguments]
        environment = self.cluster.environment
        ran = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, timeout=seconds)
        if ran.returncode != 0:
            raise AssertionError(f"helm {' '.join(arguments)} exited {ran.returncode}:\n{ran.stdout}\n{ran.stderr}")
        return ran.stdout

    def install(self, values: Mapping[str, Any]) -> None:
        """Installs the chart and returns when every pod is ready."""
        options = ("--create-namespace", "--values=-", "--wait", "--timeout=4m")
        self.helm("install", "okiba", str(CHART), *options, stdin=json.dumps(self._values(values)))

    def upgrade(self, values: Mapping[str, Any]) -> None:
        """Changes values and returns when every pod is ready again; those of the installation stay as they were."""
        options = ("--reuse-values", "--values=-", "--wait", "--timeout=4m")
        self.helm("upgrade", "okiba", str(CHART), *options, stdin=json.dumps(values))

    def _values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        ours = {
            "functions": {"namespace": self.functions, "keepNamespace": False},
            "credentials": {"keep": False},
            "redis": {"bundled": {"persistence": {"enabled": False}}},
            "s3": {"bundled": {"persistence": {"enabled": False}}},
        }
        return _merged(ours, values)

    # --- talking to it ------------------------------------------------------------------------------------------------

    @cached_property
    def variables(self) -> dict[str, str]:
        """What NOTES.txt exports."""
        secret = self.cluster.get("secret", "okiba-credentials", "--namespace", self.namespace)["data"]
        keys = {name: base64.b64decode(value).decode() for name, value in secret.items()}
        return {
            "AWS_ENDPOINT_URL": f"http://{self.gateway}",
            "AWS_ENDPOINT_URL_S3": f"http://{self.service('okiba-minio')}:9000",
            "AWS_ACCESS_KEY_ID": keys["admin-access-key"],
            "AWS_SECRET_ACCESS_KEY": keys["admin-secret-key"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "OKIBA_WEBHOOK_TOKEN": keys["webhook-token"],
        }

    @property
    def webhook_token(self) -> str:
        """What a store proves itself with."""
        return self.variables["OKIBA_WEBHOOK_TOKEN"]

    def service(self, name: str) -> str:
        """A Service's address."""
        return str(self.cluster.get("service", name, "--namespace", self.namespace)["spec"]["clusterIP"])

    @cached_property
    def gateway(self) -> str:
        """The public port as host:port."""
        return f"{self.service('okiba-gateway')}:4566"

    @cached_property
    def admin(self) -> str:
        """The admin port as host:port: from inside a gateway's pod, for the policies let only the store reach it."""
        command = ["kubectl", "port-forward", "--namespace", self.namespace, "service/okiba-admin", ":4567"]
        forward = subprocess.Popen(command, env=self.cluster.environment, stdout=subprocess.PIPE, text=True)
        self.forwards.append(forward)
        assert forward.stdout
        said = forward.stdout.readline()
        assert said.startswith("Forwarding from 127.0.0.1:"), said
        return said.split()[2]

    def okiba(self, *arguments: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Runs the CLI, as somebody does who has only the release's address and keys."""
        environment = {**self.environment, **self.variables, "OKIBA_ENDPOINT": f"http://{self.gateway}"}
        environment.pop("OKIBA_STATE_DIR", None)
        command = [sys.executable, "-m", "okiba.apps.cli", *arguments]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        if check and ran.returncode != 0:
            raise AssertionError(f"okiba {' '.join(arguments)} exited {ran.returncode}:\n{ran.stdout}\n{ran.stderr}")
        return ran

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all gateways and all labels but those given."""
        return sum(self._metric_of(pod, name, labels) for pod in self.pods("gateway"))

    def _metric_of(self, pod: str, name: str, labels: Mapping[str, str]) -> float:
        return metric_in(self.metrics_of(pod), name, **labels)

    def metrics_of(self, pod: str) -> str:
        """What a gateway or a controller shows Prometheus."""
        # From inside the pod: the policies let nobody else reach this port.
        return self.cluster.kubectl("exec", pod, "--namespace", self.namespace, "--", "python", "-c", _METRICS)

    # --- its pods -----------------------------------------------------------------------------------------------------

    def pods(self, component: str) -> list[str]:
        """Names of a component's running pods."""
        return [pod["metadata"]["name"] for pod in self._pods(component) if pod["status"].get("phase") == "Running"]

    def _pods(self, component: str) -> list[dict[str, Any]]:
        selector = f"--selector=app.kubernetes.io/component={component}"
        return list(self.cluster.get("pods", "--namespace", self.namespace, selector)["items"])

    def slot_pods(self) -> list[dict[str, Any]]:
        """Every pod of slots."""
        selector = "--selector=app.kubernetes.io/component=slot"
        return list(self.cluster.get("pods", "--namespace", self.functions, selector)["items"])

    def pids(self, component: str) -> list[int]:
        """Process ids of a component's processes; on the suite's own cluster, whose nodes are this machine."""
        return [pid for pod in self._pods(component) for pid in processes_of(pod["metadata"]["uid"])]

    @contextlib.contextmanager
    def stopped(self, component: str) -> Iterator[None]:
        """The component's processes do nothing for as long as the block lasts."""
        pids = self.pids(component)
        assert pids, f"no process of {component}"
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def processes_of(pod_uid: str) -> list[int]:
    """Processes of a pod on this machine, but for its sandbox's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if pod_uid in (process / "cgroup").read_text() and b"/pause" not in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


@contextlib.contextmanager
def release(cluster: Cluster, values: Mapping[str, Any] | None = None) -> Iterator[Release]:
    """The chart, installed and ready; gone afterwards with its namespaces."""
    if cluster.own:
        load(product(), lambda line: print(line, flush=True))
    here = Release(cluster, f"okiba-{secrets.token_hex(3)}", dict(os.environ))
    with _package_index() as index:
        try:
            here.install(_merged(index if cluster.own else {}, values or {}))
            yield here
        except BaseException:
            print(_story(here), file=sys.stderr)
            raise
        finally:
            here.clients.close()
            for forward in here.forwards:
                forward.terminate()
                forward.communicate()
            _remove(here)


def _remove(here: Release) -> None:
    with contextlib.suppress(AssertionError):
        here.helm("uninstall", "okiba", "--wait", "--timeout", "2m")
    for namespace in (here.functions, here.namespace):
        here.cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


def _story(here: Release) -> str:
    """What there is to see when something went wrong."""
    parts = []
    for namespace in (here.namespace, here.functions):
        with contextlib.suppress(AssertionError):
            parts.append(here.cluster.kubectl("get", "pods", "--output=wide", "--namespace", namespace))
            parts.append(here.cluster.kubectl("get", "events", "--namespace", namespace)[-3000:])
    for component in COMPONENTS:
        with contextlib.suppress(AssertionError):
            selector = f"--selector=app.kubernetes.io/component={component}"
            log = here.cluster.kubectl("logs", selector, "--namespace", here.namespace, "--tail=40", "--prefix")
            parts.append(f"--- {component}\n{log}")
    return "\n".join(parts)


@contextlib.contextmanager
def _package_index() -> Iterator[dict[str, Any]]:
    """Values that let the jobs take wheels from this machine: the suite's pods reach no package registry."""
    _ensure_wheels()
    handler = functools.partial(_Quiet, directory=str(WHEELS))
    with http.server.ThreadingHTTPServer((NODES[0].address, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        links = f"http://{NODES[0].address}:{port}/"
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links, "PIP_TRUSTED_HOST": NODES[0].address}
        try:
            yield {"jobs": {"extraEnv": pip}, "networkPolicy": {"packagesPorts": [443, port]}}
        finally:
            server.shutdown()


def _ensure_wheels() -> None:
    """What the example requires, kept for when there is no network."""
    wanted = WHEELS / ".downloaded"
    if wanted.exists() and wanted.read_text() == REQUIREMENTS.read_text():
        return
    WHEELS.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, f"--dest={WHEELS}", f"--requirement={REQUIREMENTS}"], check=True, timeout=600)
    wanted.write_text(REQUIREMENTS.read_text())


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the other winning, nested mappings merged."""
    merged = dict(one)
    for key, value in other.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged
