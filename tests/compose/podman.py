"""docker-compose.yml without Docker: podman and podman-compose, with everything they keep in one temporary folder.

What is particular to this machine (certificates, package indexes) goes into a second compose file, as a site of its own
would do it. Nothing is left behind: containers, networks and mounts end with `down`, the folder with everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from okiba.apps.local.ports import free_port
from tests import images
from tests.deadline import until
from tests.installation import command_line

FILE: Final = images.ROOT / "docker-compose.yml"
REQUIREMENTS: Final = Path(__file__).with_name("requirements.lock")

PROGRAMS: Final = {
    "podman": "podman",
    "runc": "runc",
    "netavark": "netavark",
    "aardvark-dns": "aardvark-dns",
    "catatonit": "catatonit",
}

# runc and the limits: crun refuses machines with both kinds of cgroups, and raising limits is not allowed everywhere.
CONTAINERS_CONF: Final = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
static_dir = "{folder}/libpod"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""

STORAGE_CONF: Final = """
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""

# Short waits, and what is particular to this machine.
SITE: Final = {
    "services": {
        "gateway": {"environment": {"OKIBA_IDLE_SLOT_MS": "5000", "OKIBA_RETRY_DELAYS_MS": "200,400"}},
        "jobs": {
            "volumes": ["{certificates}:{certificates}:ro", "{folder}/pip.conf:/etc/pip.conf:ro"],
            "environment": {"PIP_CERT": "{certificates}"},
        },
    }
}

COMMAND_S: Final = 120
UP_S: Final = 600


@dataclass(frozen=True)
class Stack:
    """One project of podman-compose.

    Args:
        folder: Everything that podman keeps.
        port: Okiba's public port; a free one, as is the object store's.
    """

    folder: Path
    environment: dict[str, str]
    port: int

    def podman(self, *words: str, timeout: float = COMMAND_S) -> str:
        """What podman prints."""
        return _run(["podman", *words], self.environment, timeout)

    def compose(self, *words: str, timeout: float = COMMAND_S) -> str:
        """What podman-compose prints."""
        files = ["--file", str(FILE), "--file", str(self.folder / "site.json")]
        program = [sys.executable, str(self.folder / "tools/podman_compose.py"), "--project-name", self.folder.name]
        return _run([*program, *files, *words], self.environment, timeout)

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.folder.name}_{service}_1"

    def healthy(self, service: str) -> bool:
        """Whether the service's own health check says so; without systemd nobody else runs it."""
        ran = subprocess.run(
            ["podman", "healthcheck", "run", self.container(service)],
            env=self.environment,
            timeout=COMMAND_S,
            capture_output=True,
            check=False,
        )
        return ran.returncode == 0

    def inspected(self, service: str) -> dict[str, Any]:
        """What podman knows of the service's container."""
        (answer,) = json.loads(self.podman("inspect", self.container(service)))
        return dict(answer)

    def logs(self) -> str:
        """The end of what every container has written."""
        names = self.podman("ps", "--all", "--format", "{{.Names}}").split()
        return "\n".join(f"--- {name}\n{self._log(name)}" for name in names)

    def _log(self, name: str) -> str:
        return subprocess.run(
            ["podman", "logs", "--tail", "30", name],
            env=self.environment,
            timeout=COMMAND_S,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        ).stdout


@contextlib.contextmanager
def stack() -> Iterator[Stack]:
    """The whole of Okiba in containers, started; nothing of it is left afterwards."""
    images.install(PROGRAMS)
    folder = Path(tempfile.mkdtemp(prefix="okc", dir="/tmp"))
    try:
        here = _prepared(folder)
        try:
            here.compose("up", "--detach", "--no-build", timeout=UP_S)
            yield here
        except BaseException:
            print(here.logs(), file=sys.stderr)
            raise
        finally:
            here.compose("down", "--volumes", "--timeout", "5")
            here.podman("system", "reset", "--force")
    finally:
        until(lambda: not _processes_of(folder), "podman's own processes to end")
        subprocess.run(["umount", f"{folder}/storage/overlay"], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)


def _prepared(folder: Path) -> Stack:
    (folder / "containers.conf").write_text(CONTAINERS_CONF.format(folder=folder))
    (folder / "storage.conf").write_text(STORAGE_CONF.format(folder=folder))
    (folder / "pip.conf").write_text(images.pip_conf())
    site = json.dumps(SITE).replace("{folder}", str(folder)).replace("{certificates}", str(images.CERTIFICATES))
    (folder / "site.json").write_text(site)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--target", str(folder / "tools")]
    _run([*install, "--requirement", str(REQUIREMENTS)], dict(os.environ), COMMAND_S)
    port = free_port()
    environment = {
        **os.environ,
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "DISABLE_HC_SYSTEMD": "true",
        "OKIBA_PORT": str(port),
        "OKIBA_S3_PORT": str(free_port()),
    }
    here = Stack(folder, environment, port)
    for image in (images.control_plane(), images.minio()):
        here.podman("load", "--quiet", "--input", str(image.archive))
    return here


def _processes_of(folder: Path) -> list[int]:
    """Processes that keep something in this folder, such as those that clean up behind a container."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [number for number in numbers if any(str(folder) in word for word in command_line(number))]


def why_not() -> str:
    """Why there can be no containers here; empty when there can."""
    return images.why_not()


def _run(command: list[str], environment: dict[str, str], timeout: float) -> str:
    ran = subprocess.run(command, env=environment, timeout=timeout, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise AssertionError(f"{' '.join(command)} exited {ran.returncode}:\n{ran.stdout}\n{ran.stderr}")
    return ran.stdout
