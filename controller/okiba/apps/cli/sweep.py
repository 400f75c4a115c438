"""`okiba sweep`: looks through buckets for objects that nobody announced, and has them handled."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from okiba.apps.cli.client import API, OkibaClient
from okiba.apps.cli.options import json_option, state_option
from okiba.apps.cli.output import clock, in_columns
from okiba.core.errors import NotFound, PlatformError

POLL_S: Final = 0.5
SILENCE_S: Final = 60.0
"""A sweep that has not come on for so long has nobody who does it."""


@click.command()
@click.argument("buckets", nargs=-1, metavar="[BUCKET]...")
@click.option("--existing", is_flag=True, help="Also what was there before functions were bound to the bucket.")
@click.option("--status", "only_look", is_flag=True, help="Ask for nothing; show each bucket's newest sweep.")
@json_option
@state_option
def sweep(state: Path, buckets: tuple[str, ...], *, existing: bool, only_look: bool, as_json: bool) -> None:
    """Look through each BUCKET (default: all that functions are bound to) for objects that nobody announced.

    Object stores forget to announce some of what they have stored, around their restarts above all. Okiba sweeps by
    itself after those, and on schedule. What was handled is not handled again.
    """
    client = OkibaClient.from_state(state)
    told = client.get_json(f"{API}/sweeps")
    wanted = buckets or tuple(told["bound"])
    if only_look:
        known = [each for each in told["sweeps"] if each["bucket"] in (buckets or [each["bucket"]])]
        if missing := set(buckets) - {each["bucket"] for each in known}:
            raise NotFound(f"no sweep is known of a bucket {min(missing)}")
        _show(known, as_json=as_json)
        return
    if not wanted:
        raise NotFound("no function is bound to a bucket; see: okiba deploy --help")
    asked = {
        bucket: client.put_json(f"{API}/sweeps/{quote(bucket, safe='')}", {"existing": existing}) for bucket in wanted
    }
    passes = [_ended(client, bucket, answer["asked_ms"]) for bucket, answer in asked.items()]
    _show(passes, as_json=as_json)
    if any(each["state"] == "failed" for each in passes):
        raise SystemExit(1)


def _ended(client: OkibaClient, bucket: str, asked_ms: int) -> dict[str, Any]:
    """The bucket's sweep, once one that began after `asked_ms` has ended."""
    seen, since_s = None, time.monotonic()
    while True:
        passes: list[dict[str, Any]] = client.get_json(f"{API}/sweeps")["sweeps"]
        found = next((each for each in passes if each["bucket"] == bucket), None)
        if found and found["ended_ms"] and found["began_ms"] >= asked_ms:
            return found
        if found != seen:
            seen, since_s = found, time.monotonic()
        if time.monotonic() - since_s > SILENCE_S:
            raise PlatformError(f"the sweep of {bucket} does not come on; is the controller up? okiba status tells")
        time.sleep(POLL_S)


def _show(passes: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(passes, indent=2))
        return
    heading = ("BUCKET", "STATE", "WHY", "BEGAN", "OBJECTS", "FOUND", "FOUND EVER", "REASON")
    click.echo(in_columns([heading, *map(_row, passes)]) if passes else "No bucket has been swept")


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(one["looked"]), str(one["found"]), str(one["ever"]))
    return one["bucket"], one["state"], one["why"], clock(one["began_ms"]), *counts, one["reason"]
