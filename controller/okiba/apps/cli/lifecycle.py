"""`okiba up`, `down` and `env`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final

import click

from okiba.apps.cli.options import ENDPOINT, PUBLISHED, state_option
from okiba.apps.local.credentials import read_credentials
from okiba.apps.local.state import (
    known_installation,
    lock_holder,
    prepare_folders,
    read_installation,
    remove_sockets_folder,
)
from okiba.core.errors import PlatformError

DOWN_S: Final = 30.0
"""What an orderly stop may take: invocations get 10 s, the stores as much."""

PORT: Final = click.IntRange(0, 65_535)


@click.command(short_help="Start Okiba on this machine.")
@state_option
@click.option("--detach", is_flag=True, help="Return as soon as everything is ready, and leave it running.")
@click.option("--port", type=PORT, help="Public port: Lambda's API and Okiba's own.  [default: 4566; 0: any free one]")
@click.option("--admin-port", type=PORT, help="Webhooks, health and metrics.  [default: 4567; 0: any free one]")
@click.option("--s3-port", type=PORT, help="MinIO.  [default: 9000; 0: any free one]")
@click.option("--warm-slots", type=click.IntRange(0, 200), help="Warm slots per Python version.  [default: 4]")
@click.option("--idle-seconds", type=click.IntRange(1), help="A slot without calls ends after this.  [default: 120]")
@click.option(
    "--appendfsync",
    type=click.Choice(["everysec", "always"]),
    default="always",
    show_default=True,
    help="When accepted events reach the disk: before their sender hears of it (`always`), or within a second "
    "(`everysec`: faster, but a crash or power loss may take what was just accepted).",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: info]")
@click.option("--report", type=int, hidden=True, help="Descriptor for progress; set by --detach.")
def up(
    state: Path,
    *,
    detach: bool,
    port: int | None,
    admin_port: int | None,
    s3_port: int | None,
    warm_slots: int | None,
    idle_seconds: int | None,
    appendfsync: str,
    log_level: str | None,
    report: int | None,
) -> None:
    """Start Okiba on this machine and keep it running until Ctrl-C, SIGTERM or `okiba down`.

    Ports are remembered in the state folder. Everything listens on 127.0.0.1 alone.
    """
    from okiba.apps.local.components import Options
    from okiba.apps.local.launch import Ports, run

    if detach:
        _detach(state)
        return
    ports = Ports(gateway=port, admin=admin_port, s3=s3_port)
    options = Options(warm_slots, idle_seconds, appendfsync, log_level)
    run(state, ports, options, report)


def _detach(state: Path) -> None:
    """Starts this very command again, in a session of its own and without --detach, and follows its report."""
    from okiba.apps.local.processes import keep_small
    from okiba.apps.local.tools import ensure_minio, find_valkey

    known_installation(state)  # refused as it is, before anything is written
    find_valkey()
    ensure_minio(os.environ, click.echo)  # may take minutes: here it can be watched, and interrupted
    read_end, write_end = os.pipe()
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    command = [sys.executable, "-m", "okiba.apps.cli", *arguments, "--report", str(write_end)]
    prepare_folders(state)
    log = state / "logs" / "supervisor.log"
    keep_small(log)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(write_end,),
        )
    os.close(write_end)
    with os.fdopen(read_end) as reports:
        _follow(reports, process)


def _follow(reports: IO[str], process: subprocess.Popen[bytes]) -> None:
    """Passes progress on until all is ready; Ctrl-C meanwhile ends what has been started."""
    try:
        for line in reports:
            message = json.loads(line)
            if "ready" in message:
                return
            if "failed" in message:
                raise PlatformError(message["failed"])
            click.echo(message["say"])
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    raise PlatformError(f"the supervisor ended with code {process.wait()} before Okiba was ready")


@click.command(short_help="Stop the Okiba that runs on this state folder.")
@state_option
def down(state: Path) -> None:
    """Stop the Okiba that runs on this state folder, and wait until it has; what is stored stays."""
    holder = lock_holder(state)
    if holder is None:
        _clean(state)
        click.echo(f"Okiba does not run on {state}.")
        return
    os.kill(holder, signal.SIGTERM)
    if not _ended(state, holder, DOWN_S):
        os.kill(holder, signal.SIGKILL)  # its children die with it
        if not _ended(state, holder, DOWN_S):
            raise PlatformError(f"the supervisor (process {holder}) does not end")
        _clean(state)
    click.echo("Okiba is stopped.")


def _clean(state: Path) -> None:
    """What a supervisor that was killed could not remove."""
    from okiba.apps.local.slots.records import end_all

    end_all(state)
    remove_sockets_folder(state)


def _ended(state: Path, holder: int, patience_s: float) -> bool:
    from okiba.apps.local.processes import start_time

    deadline = time.monotonic() + patience_s
    while lock_holder(state) == holder or start_time(holder) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@click.command(short_help="Print export lines that point boto3 and the aws CLI here.")
@state_option
def env(state: Path) -> None:
    """Print export lines for a shell: eval "$(okiba env)" points boto3 and the aws CLI at Okiba and its MinIO."""
    for name, value in aws_environment(state).items():
        click.echo(f"export {name}={shlex.quote(value)}")
    click.echo("unset AWS_SESSION_TOKEN")  # that of another account's key would go along with ours


def aws_environment(state: Path) -> dict[str, str]:
    """The variables that make AWS's tools talk to this installation."""
    installation, credentials = read_installation(state), read_credentials(state)
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{installation.gateway_port}",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{installation.s3_port}",
        "AWS_ACCESS_KEY_ID": credentials.admin_access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.admin_secret_key,
        "AWS_DEFAULT_REGION": installation.region,
        # The shell that this is for does not have a container's state folder.
        **({ENDPOINT: os.environ[PUBLISHED]} if os.environ.get(PUBLISHED) else {}),
    }
