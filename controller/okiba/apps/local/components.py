"""How each of Okiba's processes is started on one machine: command, environment, and how it shows that it is ready.

    Valkey, MinIO  →  bootstrap (admin key, platform's bucket; ends)  →  gateway, controller, jobs

All of it reaches the processes as OKIBA_* variables (`okiba.settings`). Variables of that kind that the user has set
pass through where `okiba up` has no say in them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from okiba.apps.local import probes
from okiba.apps.local.credentials import Credentials
from okiba.apps.local.processes import Command
from okiba.apps.local.state import Installation
from okiba.core.notification import minio_notify_environment

ASYNC_SLOTS_PER_CORE: Final = 8

FILE_STORE_OPTIONS: Final = ("server", "--quiet")


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose; None leaves a setting to its variable, else to its default.

    Args:
        appendfsync: `always` survives every crash and power loss; with `everysec`, Valkey may answer before it has
            written at all, while it syncs what came before.
    """

    warm_slots: int | None = None
    idle_seconds: int | None = None
    appendfsync: str = "always"
    log_level: str | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """A process that the supervisor keeps running.

    Args:
        answers: Asked until it says yes; only then does what stands on it start.
    """

    command: Command
    answers: Callable[[], Awaitable[bool]]

    @property
    def name(self) -> str:
        """What logs and messages call it."""
        return self.command.name


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that the components' commands are made of."""

    state_dir: Path
    installation: Installation
    credentials: Credentials
    options: Options
    valkey: Path
    minio: Path
    lifeline: int

    def stores(self) -> list[Component]:
        """What the platform stands on."""
        return [self._valkey(), self._minio()]

    def platform(self, environment: Mapping[str, str]) -> list[Component]:
        """Okiba's own processes."""
        admin = self.installation.admin_port
        fleet = self.installation.sockets / "fleet"
        return [
            self._module("gateway", environment, partial(probes.http_answers, admin, "/readyz")),
            self._module("controller", environment, partial(probes.socket_accepts, fleet), inherits=(self.lifeline,)),
            self._module("jobs", environment, partial(probes.jobs_answer, self.installation.sockets / "valkey")),
        ]

    def bootstrap(self, environment: Mapping[str, str]) -> Command:
        """What has to be done once the stores answer, and before anything else starts."""
        return Command("bootstrap", self._python("okiba.apps.local.bootstrap"), self._environment(environment))

    def settings_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The OKIBA_* variables of this site."""
        installation, credentials, options = self.installation, self.credentials, self.options
        socket = installation.sockets / "valkey"
        chosen = {
            "STATE_DIR": str(self.state_dir),
            "GATEWAY_ADDRESS": f"127.0.0.1:{installation.gateway_port}",
            "ADMIN_ADDRESS": f"127.0.0.1:{installation.admin_port}",
            "REDIS_URL": f"unix://{socket}",
            "BROKER_URL": f"redis+socket://{socket}?virtual_host=1",
            "S3_ENDPOINT": f"http://127.0.0.1:{installation.s3_port}",
            "S3_ACCESS_KEY": credentials.s3_access_key,
            "S3_SECRET_KEY": credentials.s3_secret_key,
            "WEBHOOK_TOKEN": credentials.webhook_token,
            "PLATFORM_KEY": credentials.platform_key,
            "FLEET_ADDRESS": f"unix:{installation.sockets / 'fleet'}",
            "LIFELINE_FD": str(self.lifeline),
        }
        if options.warm_slots is not None:
            chosen["WARM_SLOTS"] = str(options.warm_slots)
        if options.idle_seconds is not None:
            chosen["IDLE_SLOT_MS"] = str(options.idle_seconds * 1000)
        if options.log_level is not None:
            chosen["LOG_LEVEL"] = options.log_level
        width = {"OKIBA_ASYNC_WIDTH": str(ASYNC_SLOTS_PER_CORE * (os.cpu_count() or 1))}
        theirs = {name: value for name, value in environment.items() if name.startswith("OKIBA_")}
        return width | theirs | {f"OKIBA_{name}": value for name, value in chosen.items()}

    def _valkey(self) -> Component:
        socket = self.installation.sockets / "valkey"
        arguments = [
            *(str(self.valkey), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
            *("--dir", str(self.state_dir / "valkey"), "--daemonize", "no", "--save", ""),
            *("--appendonly", "yes", "--appendfsync", self.options.appendfsync, "--aof-load-truncated", "yes"),
            *("--maxmemory-policy", "noeviction"),
        ]
        return Component(Command("valkey", arguments, _plain_environment()), partial(probes.valkey_answers, socket))

    def _minio(self) -> Component:
        port, home = self.installation.s3_port, self.state_dir / "minio"
        arguments = [
            *(str(self.minio), *FILE_STORE_OPTIONS, "--address", f"127.0.0.1:{port}"),
            *("--certs-dir", str(home / "certs"), str(home / "data")),
        ]
        environment = {
            **_plain_environment(),
            **minio_notify_environment(
                f"http://127.0.0.1:{self.installation.admin_port}",
                self.credentials.webhook_token,
                self.state_dir / "queue",
            ),
            "MINIO_ROOT_USER": self.credentials.s3_access_key,
            "MINIO_ROOT_PASSWORD": self.credentials.s3_secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        # Its own /minio/health/ready says yes while S3 still answers 503 (seen on a busy machine).
        ready = partial(probes.http_answers, port, "/", 403)
        return Component(Command("minio", arguments, environment), ready)

    def _module(
        self,
        name: str,
        environment: Mapping[str, str],
        answers: Callable[[], Awaitable[bool]],
        inherits: tuple[int, ...] = (),
    ) -> Component:
        command = Command(name, self._python(f"okiba.apps.{name}"), self._environment(environment), inherits)
        return Component(command, answers)

    def _python(self, module: str) -> Sequence[str]:
        return [sys.executable, "-m", module]

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The user's own, so that proxies and package mirrors keep working, under this site's settings."""
        return {**environment, "PYTHONUNBUFFERED": "1", **self.settings_environment(environment)}


def _plain_environment() -> dict[str, str]:
    """For servers that read many variables: only what every program needs."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TZ", "LANG", "TMPDIR") if name in os.environ}
