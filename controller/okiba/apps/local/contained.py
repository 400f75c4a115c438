"""Okiba's processes as containers of one machine (docker-compose.yml), which share a state folder and a socket folder.

    prepare         makes the state folder, its credentials and the object store's settings; before all others
    run MODULE...   runs `python -m okiba.apps.MODULE`, one after the other, with the credentials in their environment
    healthy NAME    ends with 0 if that component of this container answers

No secret is in the compose file: the first start makes them, into the state folder. What else a process needs to know
is in its OKIBA_* variables; here are two more, that only `prepare` reads. All of it may be done again at any time.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from okiba.apps.local import probes
from okiba.apps.local.credentials import Credentials, ensure_credentials, read_credentials
from okiba.apps.local.state import Installation, prepare_folders, write_installation
from okiba.core.errors import OkibaError, PlatformError
from okiba.core.notification import minio_notify_environment
from okiba.settings import Settings

STORE_SETTINGS: Final = "OKIBA_STORE_SETTINGS"
"""The file that the object store reads its variables from (MinIO: MINIO_CONFIG_ENV_FILE)."""

STORE_QUEUE: Final = "OKIBA_STORE_QUEUE"
"""The store's own folder for notifications that it could not deliver."""

USAGE: Final = "usage: contained prepare | run MODULE... | healthy gateway|controller|jobs|valkey"


def prepare(environment: Mapping[str, str]) -> None:
    """Everything that containers share is there; what was there already stays."""
    settings = Settings.from_environment(environment)
    prepare_folders(settings.state_dir)
    credentials = ensure_credentials(settings.state_dir)
    write_installation(settings.state_dir, _installation(settings))
    lines = (f"{name}={value}\n" for name, value in _store_environment(environment, credentials).items())
    _write_secret(Path(environment[STORE_SETTINGS]), "".join(lines))


def process_environment(environment: Mapping[str, str], credentials: Credentials) -> dict[str, str]:
    """What a process of Okiba is run with: this container's variables, and the platform's secrets. Not the user's."""
    secrets = {f"OKIBA_{name.upper()}": value for name, value in asdict(credentials).items()}
    return {**environment, **{name: value for name, value in secrets.items() if "ADMIN" not in name}}


async def healthy(name: str, settings: Settings) -> bool:
    """Whether the component that runs in this container answers."""
    match name:
        case "gateway":
            return await probes.http_answers(_port(settings.admin_address), "/readyz")
        case "controller":
            return await probes.socket_accepts(Path(settings.fleet_address.removeprefix("unix:")))
        case "jobs":
            return await probes.jobs_answer(_valkey(settings))
        case "valkey":
            return await probes.valkey_answers(_valkey(settings))
        case _:
            sys.exit(USAGE)


def _installation(settings: Settings) -> Installation:
    """As the user's shell sees it: ports are published under the numbers that they have inside."""
    s3, sockets = _port(settings.s3_endpoint), _valkey(settings).parent
    gateway, admin = _port(settings.gateway_address), _port(settings.admin_address)
    return Installation(gateway, admin, s3, sockets, settings.region, settings.account_id)


def _store_environment(environment: Mapping[str, str], credentials: Credentials) -> dict[str, str]:
    queue, webhook = Path(environment[STORE_QUEUE]), environment["OKIBA_S3_WEBHOOK_URL"]
    return {
        **minio_notify_environment(webhook, credentials.webhook_token, queue),
        "MINIO_ROOT_USER": credentials.s3_access_key,
        "MINIO_ROOT_PASSWORD": credentials.s3_secret_key,
    }


def _write_secret(path: Path, content: str) -> None:
    """Replaces the file at once: the store may be reading it."""
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(content)
    fresh.replace(path)


def _valkey(settings: Settings) -> Path:
    return Path(settings.redis_url.removeprefix("unix://"))


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _run(modules: Sequence[str], environment: dict[str, str]) -> None:
    """Runs the first ones to their end, then becomes the last.

    Raises:
        PlatformError: One of the first ones failed, and has said why.
    """
    for module in modules[:-1]:
        if code := subprocess.run(_command(module), env=environment, check=False).returncode:
            raise PlatformError(f"{module} ended with {code}")
    # Every slot is several connections.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.execve(sys.executable, _command(modules[-1]), environment)  # noqa: S606 (an argument list)


def _command(module: str) -> list[str]:
    return [sys.executable, "-m", f"okiba.apps.{module}"]


def main(words: list[str]) -> int:
    """Does what the words ask for; the exit status."""
    environment = dict(os.environ)
    try:
        match words:
            case ["prepare"]:
                prepare(environment)
            case ["run", _, *_]:
                credentials = read_credentials(Settings.from_environment(environment).state_dir)
                _run(words[1:], process_environment(environment, credentials))
            case ["healthy", name]:
                return int(not asyncio.run(healthy(name, Settings.from_environment(environment))))
            case _:
                sys.exit(USAGE)
    except OkibaError as error:
        sys.exit(f"okiba: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
