"""`make demo`: Okiba started, the thumbnail example deployed, a real photo uploaded, and what happened when.

Every time in the timeline is measured in this run: the upload by this process, the hops by the gateway's own record
of its last invocations, the thumbnails by the object store's LastModified; all three read the clock of this machine.

The photo is of the astronaut Eileen Collins, by NASA (flic.kr/p/r9qvLn, from its Great Images database), released into
the public domain; it comes inside scikit-image's wheel, a development dependency, and is uploaded as it is.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click

from okiba.apps.cli.client import OkibaClient, function_path
from okiba.apps.cli.deploy import home_of, origin_of, plan_of
from okiba.apps.cli.deployment import Deployment
from okiba.apps.cli.options import state_option
from okiba.apps.cli.output import command_line, program
from okiba.apps.local.state import lock_holder
from okiba.core.errors import NotFound, OkibaError, PlatformError

EXAMPLE: Final = Path(__file__).parents[3] / "examples/01-thumbnails"
KEY: Final = "portraits/eileen-collins.png"

POLL_S: Final = 0.05
EVENT_S: Final = 10.0
"""How long one upload's event may take; MinIO announces it within milliseconds or, just after a start, not at all."""

UPLOADS: Final = 3
WARM_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Upload:
    """One PUT of the photo; wall clock in ms."""

    begun_ms: float
    returned_ms: float


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """What the function stored."""

    key: str
    stored_ms: float
    stored_bytes: int
    width: int
    height: int


@click.command()
@state_option
def main(state: Path) -> None:
    """Show the whole journey of a photo, measured, and leave Okiba running."""
    try:
        _show(state)
    except OkibaError as error:
        raise click.ClickException(str(error)) from error


def _show(state: Path) -> None:
    photo = _photo()
    _start(state)
    client = OkibaClient.from_state(state)
    plan = plan_of(EXAMPLE, None, home=home_of(state))
    click.echo(f"Deploying {EXAMPLE.name}")
    origin = origin_of(EXAMPLE, None)
    (deployed,) = Deployment(client, plan, origin, lambda line: click.echo(f"  {line}")).run()
    click.echo(f"  {deployed.name}: {deployed.change}, active")
    photos, thumbnails = plan.buckets
    _await_warm(client, deployed.name)
    upload, ran = _uploaded(client, deployed.name, photos, photo)
    click.echo(timeline(upload, ran, _stored(client, thumbnails)))
    click.echo(_what_next(state, deployed.name, photos, thumbnails, photo))


# --- the steps ----------------------------------------------------------------------------------------------------


def _photo() -> Path:
    """The photo's file inside scikit-image, found without importing that (which takes a second)."""
    spec = find_spec("skimage")
    path = Path(spec.origin or "").parent / "data/astronaut.png" if spec else Path("astronaut.png")
    if not path.is_file():
        raise NotFound("the demo's photo comes with scikit-image, which is not installed here; run: make setup")
    return path


def _start(state: Path) -> None:
    if lock_holder(state) is not None:
        click.echo(f"Okiba already runs on {state}")
        return
    up = [sys.executable, "-m", "okiba.apps.cli", "up", "--detach", "--state", str(state)]
    if code := subprocess.run(up, check=False).returncode:
        sys.exit(code)


def _await_warm(client: OkibaClient, name: str) -> None:
    """Waits for a slot that has the function's layer imported; without one the demo works too, but slower."""
    record = client.function(name)
    kind = f"{record['runtime']}+{record['layer']['hash']}"
    _awaited(lambda: client.get_json("/okiba/v1/status")["warm_slots"].get(kind), WARM_S)


def _uploaded(client: OkibaClient, name: str, bucket: str, photo: Path) -> tuple[Upload, dict[str, Any]]:
    """The upload, and the gateway's record of the invocation that it caused."""
    seen = {invocation["request_id"] for invocation in _recent(client, name)}
    for _ in range(UPLOADS):
        click.echo(f"Uploading {photo.name} ({photo.stat().st_size:,} bytes) as s3://{bucket}/{KEY}")
        upload = _put(client, bucket, photo.read_bytes())
        ran = _awaited(lambda: _new_invocation(client, name, seen), EVENT_S)
        if ran is not None:
            return upload, ran
        click.echo("  the object store announced nothing; it can forget an upload just after its start. Once more:")
    raise PlatformError(f"no event of {UPLOADS} uploads arrived; see: okiba status, okiba doctor")


def _put(client: OkibaClient, bucket: str, content: bytes) -> Upload:
    client.s3.head_bucket(Bucket=bucket)  # opens the connection, so that the PUT alone is measured
    begun_ms = time.time() * 1000
    client.s3.put_object(Bucket=bucket, Key=KEY, Body=content, ContentType="image/png")
    return Upload(begun_ms, time.time() * 1000)


def _recent(client: OkibaClient, name: str) -> list[dict[str, Any]]:
    invocations: list[dict[str, Any]] = client.get_json(f"{function_path(name)}/recent")["invocations"]
    return invocations


def _new_invocation(client: OkibaClient, name: str, seen: set[str]) -> dict[str, Any] | None:
    for invocation in _recent(client, name):
        if invocation["source"] == "s3" and invocation["request_id"] not in seen:
            if invocation["ending"] != "succeeded":
                raise PlatformError(f"{name} failed; see: okiba logs {name}")
            return invocation
    return None


def _stored(client: OkibaClient, bucket: str) -> list[Thumbnail]:
    """The photo's thumbnails, in the order in which they were stored."""
    # PIL is a development dependency, as the photo's package is.
    from PIL import Image

    found = []
    for entry in client.s3.list_objects_v2(Bucket=bucket, Prefix=f"{KEY}/").get("Contents", []):
        body = client.s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        width, height = Image.open(io.BytesIO(body)).size
        stored_ms = entry["LastModified"].timestamp() * 1000
        found.append(Thumbnail(f"s3://{bucket}/{entry['Key']}", stored_ms, len(body), width, height))
    return sorted(found, key=lambda thumbnail: thumbnail.stored_ms)


def _awaited(look: Callable[[], Any], patience_s: float) -> Any:
    """The first thing that looking finds, or None when patience ends."""
    deadline = time.monotonic() + patience_s
    while not (found := look()):
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_S)
    return found


# --- what is printed ----------------------------------------------------------------------------------------------


def timeline(upload: Upload, ran: dict[str, Any], thumbnails: list[Thumbnail]) -> str:
    """The photo's journey, each line with its time after the PUT returned, in order."""
    if ran["cold"]:
        ready = f"slot ready: from zero, made this function's in {ran['slot_ready_ms'] - ran['accepted_ms']:.1f} ms"
    else:
        ready = "slot ready: still there from an earlier event"
    moments = [
        (upload.begun_ms, "PUT begins"),
        (upload.returned_ms, f"PUT returned, after {upload.returned_ms - upload.begun_ms:.1f} ms"),
        (ran["accepted_ms"], "event received by Okiba"),
        (ran["slot_ready_ms"], ready),
        (ran["started_ms"], "handler running"),
        (ran["finished_ms"], f"handler done, after {ran['duration_us'] / 1000:.1f} ms"),
    ]
    for thumbnail in thumbnails:
        size = f"{thumbnail.width}x{thumbnail.height} pixels, {thumbnail.stored_bytes:,} bytes"
        moments.append((thumbnail.stored_ms, f"stored {thumbnail.key} ({size})"))
    lines = [f"{at_ms - upload.returned_ms:>+10.1f} ms  {what}" for at_ms, what in sorted(moments)]
    return "\n".join(["", "Measured, from when the PUT returned:", *lines])


def _what_next(state: Path, name: str, photos: str, thumbnails: str, photo: Path) -> str:
    upload = f'import boto3; boto3.client("s3").upload_file("{photo}", "{photos}", "another.png")'
    keys = f'*[o["Key"] for o in boto3.client("s3").list_objects_v2(Bucket="{thumbnails}")["Contents"]]'
    listing = f"import boto3; print({keys}, sep=chr(10))"
    commands = [
        command_line(state, "status"),
        command_line(state, "logs", name),
        command_line(state, "invoke", name, "--payload", '{"Records": []}'),
        f'eval "$({command_line(state, "env")})"',
        shlex.join([program("python"), "-c", upload]),
        shlex.join([program("python"), "-c", listing]),
        command_line(state, "dlq", "list"),
    ]
    lines = ["", "Okiba is left running. Try next:", *(f"  {command}" for command in commands)]
    return "\n".join([*lines, "", f"Stop it with:\n  {command_line(state, 'down')}"])


if __name__ == "__main__":
    main()
