"""From a command line to a running supervisor: everything that can be wrong is found before anything is started.

The order matters: the folder, then its lock, then what is in it, then ports, then programs; only then okiba.json is
written and processes start. Whatever fails before leaves nothing running.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from okiba.apps.journal import log_to_stderr
from okiba.apps.local.components import Options, Site
from okiba.apps.local.credentials import ensure_credentials
from okiba.apps.local.ports import free_port, require_free
from okiba.apps.local.state import (
    FolderLock,
    Installation,
    ensure_sockets_folder,
    known_installation,
    prepare_folders,
    remove_sockets_folder,
    write_installation,
)
from okiba.apps.local.supervisor import supervise
from okiba.apps.local.tools import ensure_minio, find_valkey
from okiba.core.errors import InvalidParameter, OkibaError
from okiba.settings import Settings

log = logging.getLogger(__name__)

GATEWAY_PORT: Final = 4566
ADMIN_PORT: Final = 4567
S3_PORT: Final = 9000


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports that the user chose; 0 means any free one, None the one used before, else the default."""

    gateway: int | None = None
    admin: int | None = None
    s3: int | None = None


class Report:
    """Tells whoever started this: lines on the terminal, or JSON lines to `okiba up --detach`."""

    def __init__(self, descriptor: int | None) -> None:
        self._pipe = os.fdopen(descriptor, "w", buffering=1) if descriptor is not None else None

    def say(self, line: str) -> None:
        """Progress."""
        self._send({"say": line}, line)

    def ready(self, installation: Installation) -> None:
        """Everything answers; nothing more will be reported."""
        self.say(f"Okiba is ready: http://127.0.0.1:{installation.gateway_port}")
        self._send({"ready": True}, "Ctrl-C stops it.")
        self._close()

    def failed(self, error: OkibaError) -> None:
        """It did not start; the terminal hears it as the command's own error."""
        self._send({"failed": str(error)}, "")
        self._close()

    def _send(self, message: dict[str, object], line: str) -> None:
        if self._pipe is not None:
            self._pipe.write(json.dumps(message) + "\n")
        elif line:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def _close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def run(state_dir: Path, ports: Ports, options: Options, report_descriptor: int | None) -> None:
    """Runs Okiba on a state folder until it is asked to stop.

    Raises:
        OkibaError: It could not start; nothing runs.
    """
    report = Report(report_descriptor)
    log_to_stderr(options.log_level or os.environ.get("OKIBA_LOG_LEVEL", "info"))
    try:
        known_installation(state_dir)  # refused as it is, before anything is written
        prepare_folders(state_dir)
        with FolderLock(state_dir):
            _run_locked(state_dir, ports, options, report)
    except OkibaError as error:
        report.failed(error)
        raise


def _run_locked(state_dir: Path, ports: Ports, options: Options, report: Report) -> None:
    environment = dict(os.environ)
    known = known_installation(state_dir)
    gateway, admin, s3 = _settled_ports(known, ports)
    valkey, minio = find_valkey(), ensure_minio(environment, report.say)
    credentials = ensure_credentials(state_dir)
    sockets = ensure_sockets_folder(known.sockets if known else None, environment)
    home = {name: environment.get(f"OKIBA_{name.upper()}") for name in ("region", "account_id")}
    chosen = {name: value for name, value in home.items() if value}
    installation = Installation(gateway, admin, s3, sockets, **chosen)
    write_installation(state_dir, installation)
    try:
        lifeline_read, lifeline_write = os.pipe()
        site = Site(state_dir, installation, credentials, options, valkey, minio, lifeline_read)
        Settings.from_environment(site.settings_environment(environment))  # what is wrong is said before a start
        _allow_descriptors()
        supervise(site, environment, lifeline_write, report.say, lambda: report.ready(installation))
    finally:
        remove_sockets_folder(state_dir)


def _settled_ports(known: Installation | None, ports: Ports) -> tuple[int, int, int]:
    """Which ports this run has: public, admin, MinIO's; each is free."""
    gateway = _chosen(ports.gateway, known.gateway_port if known else GATEWAY_PORT)
    admin = _chosen(ports.admin, known.admin_port if known else ADMIN_PORT)
    s3 = _chosen(ports.s3, known.s3_port if known else S3_PORT)
    if len({gateway, admin, s3}) < 3:
        raise InvalidParameter(f"--port, --admin-port and --s3-port must differ, got {gateway}, {admin} and {s3}")
    require_free(gateway, "Okiba's public port", "--port")
    require_free(admin, "Okiba's admin port", "--admin-port")
    require_free(s3, "MinIO", "--s3-port")
    return gateway, admin, s3


def _chosen(asked: int | None, otherwise: int) -> int:
    return free_port() if asked == 0 else asked or otherwise


def _allow_descriptors() -> None:
    """Every slot is several connections; the soft limit of 1,024 is a relic of select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
