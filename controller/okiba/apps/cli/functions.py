"""`okiba list | invoke | logs | delete`: what one does with functions that are deployed."""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from okiba.apps.cli.client import ANSWER_S, OkibaClient, function_path
from okiba.apps.cli.options import json_option, state_option
from okiba.apps.cli.output import clock, error_text, in_columns
from okiba.core.errors import InvalidParameter

FOLLOW_MS: Final = 5_000
"""How long one request for more log lines waits for them."""

_SINCE = re.compile(r"(\d{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


# --- list ---------------------------------------------------------------------------------------------------------


@click.command("list")
@json_option
@state_option
def list_functions(state: Path, *, as_json: bool) -> None:
    """List the functions with their state."""
    client = OkibaClient.from_state(state)
    records = [client.function(name) for name in client.function_names()]
    if as_json:
        click.echo(json.dumps(records, indent=2))
    elif not records:
        click.echo("No functions yet; deploy one with: okiba deploy FOLDER")
    else:
        _show(records)


def _show(records: list[dict[str, Any]]) -> None:
    rows = [("NAME", "STATE", "RUNTIME", "MEMORY", "TIMEOUT", "BUCKETS", "MANAGED BY"), *map(_row, records)]
    click.echo(in_columns(rows))
    for record in records:
        if record.get("state_reason"):
            click.echo(f"{record['name']}: {record['state_reason']}", err=True)
        for warning in record.get("warnings", []):
            click.echo(f"{record['name']}: warning: {warning}", err=True)


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    return (
        record["name"],
        "Paused" if record.get("paused") else record["state"],
        record["runtime"],
        f"{record['memory_mb']} MB",
        f"{record['timeout_s']} s",
        ", ".join(sorted({binding["bucket"] for binding in record.get("bindings", [])})) or "-",
        record.get("managed_by", ""),
    )


@click.command()
@click.argument("name")
@state_option
def pause(state: Path, name: str) -> None:
    """Begin no more asynchronous events of the function NAME: they wait, and calls are answered as ever."""
    OkibaClient.from_state(state).act("PUT", f"{function_path(name)}/paused")
    click.echo(f"{name} is paused: its events wait until okiba resume {name}")


@click.command()
@click.argument("name")
@state_option
def resume(state: Path, name: str) -> None:
    """Begin the asynchronous events of the function NAME again that waited while it was paused."""
    OkibaClient.from_state(state).act("DELETE", f"{function_path(name)}/paused")
    click.echo(f"{name} is resumed")


# --- invoke -------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("name")
@click.option("--payload", default="{}", show_default=True, help="The event: JSON, @FILE, or - for standard input.")
@click.option("--async", "asynchronous", is_flag=True, help="Queue the event and return at once.")
@click.option("--tail", is_flag=True, help="Show the end of the invocation's log on standard error.")
@json_option
@state_option
def invoke(state: Path, name: str, payload: str, *, asynchronous: bool, tail: bool, as_json: bool) -> None:
    """Call the function NAME and print its result; exits with 1 when the function fails."""
    event = _event(payload)
    client = OkibaClient.from_state(state)
    answer = client.lambda_call(
        "invoke",
        FunctionName=name,
        Payload=event,
        InvocationType="Event" if asynchronous else "RequestResponse",
        LogType="Tail" if tail and not asynchronous else "None",
    )
    result = answer["Payload"].read()
    log = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
    failed = "FunctionError" in answer
    if as_json:
        click.echo(json.dumps(_invocation(answer, result, log), indent=2))
    else:
        click.echo(log, err=True, nl=False)
        _show_result(answer, result, asynchronous=asynchronous)
    if failed:
        sys.exit(1)


def _event(payload: str) -> bytes:
    """The event's bytes; what is not JSON is refused here, where the file and line are known."""
    try:
        if payload == "-":
            content = sys.stdin.buffer.read()
        else:
            content = Path(payload[1:]).read_bytes() if payload.startswith("@") else payload.encode()
        json.loads(content)
    except OSError as error:
        raise InvalidParameter(f"{payload[1:]} cannot be read: {error.strerror}") from error
    except ValueError as error:
        where = "standard input" if payload == "-" else payload[1:] if payload.startswith("@") else "--payload"
        raise InvalidParameter(f"{where} is not JSON: {error}") from error
    return content


def _invocation(answer: dict[str, Any], result: bytes, log: str) -> dict[str, Any]:
    return {
        "status": answer["StatusCode"],
        "request_id": answer["ResponseMetadata"].get("RequestId", ""),
        "function_error": answer.get("FunctionError"),
        "payload": json.loads(result) if result else None,
        "log": log or None,
    }


def _show_result(answer: dict[str, Any], result: bytes, *, asynchronous: bool) -> None:
    if asynchronous:
        click.echo(f"Accepted as request {answer['ResponseMetadata'].get('RequestId', '')}")
    elif "FunctionError" in answer:
        click.echo(error_text(json.loads(result)), err=True)
    else:
        click.echo(result)


# --- logs ---------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what the function writes, until Ctrl-C.")
@click.option("--since", metavar="AGE", help="Only what is younger, such as 90s, 10m, 2h or 1d.")
@state_option
def logs(state: Path, name: str, *, follow: bool, since: str | None) -> None:
    """Print what the function NAME has written, also after its slots are gone."""
    oldest_ms = time.time() * 1000 - _age_s(since) * 1000 if since else 0.0
    client = OkibaClient.from_state(state)
    try:
        for chunk in _chunks(client, name, follow=follow):
            if chunk["time_ms"] >= oldest_ms:
                _show_chunk(chunk)
    except KeyboardInterrupt:
        return


def _chunks(client: OkibaClient, name: str, *, follow: bool) -> Iterator[dict[str, Any]]:
    after = ""
    path = f"{function_path(name)}/logs"
    wait_ms = 0
    while True:
        answer = client.get_json(path, {"after": after, "wait_ms": wait_ms}, ANSWER_S + wait_ms / 1000)
        yield from answer["chunks"]
        if not after and not answer["chunks"]:
            client.require_function(name)  # output of a deleted function can be read while it is kept
        if answer["chunks"]:
            after = answer["chunks"][-1]["id"]
        elif not follow:
            return
        else:
            wait_ms = FOLLOW_MS


def _show_chunk(chunk: dict[str, Any]) -> None:
    if chunk["dropped"]:
        click.echo(f"[{clock(chunk['time_ms'])}: {chunk['dropped']} bytes of output were dropped here]", err=True)
    click.echo(chunk["text"], nl=False)


def _age_s(since: str) -> int:
    if not (match := _SINCE.fullmatch(since)):
        raise InvalidParameter(f"--since must be a number and s, m, h or d, as in 10m; got {since!r}")
    return int(match[1]) * _SECONDS[match[2]]


# --- delete -------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask; needed when not on a terminal.")
@state_option
def delete(state: Path, name: str, *, yes: bool) -> None:
    """Delete the function NAME and the events that wait for it.

    Its logs and dead letters stay for 7 days: `okiba logs NAME` and `okiba dlq list NAME` go on showing them. Buckets
    stay for ever.
    """
    client = OkibaClient.from_state(state)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidParameter(f"deleting {name} needs --yes when nobody can be asked")
        client.lambda_call("get_function", FunctionName=name)
        click.confirm(f"Delete the function {name} and the events that wait for it?", abort=True)
    client.lambda_call("delete_function", FunctionName=name)
    click.echo(f"{name} is deleted; its logs and dead letters stay for 7 days, its buckets as they are")
