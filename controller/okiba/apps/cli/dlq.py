"""`okiba dlq list | show | redrive | purge`: events that no attempt could handle, whole, with what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from okiba.apps.cli.client import API, OkibaClient, function_path
from okiba.apps.cli.options import json_option, state_option
from okiba.apps.cli.output import clock, error_text, in_columns

PAGE: Final = 100


@click.group()
def dlq() -> None:
    """Look at dead letters: events whose every attempt failed."""


@dlq.command("list")
@click.argument("name", required=False)
@json_option
@state_option
def list_dead_letters(state: Path, name: str | None, *, as_json: bool) -> None:
    """List dead letters, oldest first, of the function NAME or of all."""
    client = OkibaClient.from_state(state)
    names = [name] if name else client.function_names()
    letters = [{"function": each, **letter} for each in names for letter in _dead_letters(client, each)]
    if name and not letters:
        client.require_function(name)  # those of a deleted function can be listed while they are kept
    if as_json:
        click.echo(json.dumps(letters, indent=2))
        return
    if letters:
        heading = ("FUNCTION", "ID", "DIED", "REASON", "ATTEMPTS", "ERROR")
        click.echo(in_columns([heading, *map(_row, letters)]))
    else:
        click.echo("No dead letters")
    for line in _retrying(client, names):
        click.echo(line)


@dlq.command()
@click.argument("name")
@click.argument("letter_id", metavar="ID")
@json_option
@state_option
def show(state: Path, name: str, letter_id: str, *, as_json: bool) -> None:
    """Show one dead letter of the function NAME, with its event and its last error."""
    client = OkibaClient.from_state(state)
    letter = client.get_json(f"{_path(name)}/{quote(letter_id, safe='')}")
    if as_json:
        click.echo(json.dumps(letter, indent=2))
        return
    for key in ("id", "reason", "attempts", "losses", "source", "request_id"):
        click.echo(f"{key:<12}{letter.get(key, '')}")
    click.echo(f"{'accepted':<12}{clock(letter['accepted_ms'])}")
    click.echo(f"{'died':<12}{clock(letter['died_ms'])}")
    click.echo(f"\nLast error:\n{error_text(letter['error'])}")
    click.echo(f"\nEvent:\n{_readable(letter['event'])}")


@dlq.command()
@click.argument("name")
@click.argument("letter_ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All dead letters that the function has now.")
@state_option
def redrive(state: Path, name: str, letter_ids: tuple[str, ...], *, every: bool) -> None:
    """Try dead letters of the function NAME again: the same events, with all their attempts before them."""
    _each(OkibaClient.from_state(state), name, letter_ids, "POST", "redriven", every=every)


@dlq.command()
@click.argument("name")
@click.argument("letter_ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All dead letters that the function has now.")
@state_option
def purge(state: Path, name: str, letter_ids: tuple[str, ...], *, every: bool) -> None:
    """Delete dead letters of the function NAME for good."""
    _each(OkibaClient.from_state(state), name, letter_ids, "DELETE", "purged", every=every)


def _each(client: OkibaClient, name: str, letter_ids: tuple[str, ...], method: str, done: str, *, every: bool) -> None:
    if every == bool(letter_ids):
        raise click.UsageError("name the dead letters by their IDs (okiba dlq list), or all of them by --all")
    chosen = [letter["id"] for letter in _dead_letters(client, name)] if every else letter_ids
    if not chosen:
        client.require_function(name)
    for letter_id in chosen:
        client.act(method, f"{_path(name)}/{quote(letter_id, safe='')}")
    click.echo(f"{name}: {len(chosen)} {done}")


def _retrying(client: OkibaClient, names: list[str]) -> Iterator[str]:
    """What may become a dead letter yet: events whose last attempt failed and that wait for the next one."""
    for function in client.get_json(f"{API}/status")["functions"]:
        if (count := function.get("retrying", 0)) and function["name"] in names:
            events = "1 event waits" if count == 1 else f"{count} events wait"
            yield f"{function['name']}: {events} for a retry, the next at {clock(function['next_retry_ms'])}"


def _readable(event: str) -> str:
    """The event indented, if it is JSON; it is told as the text that was sent."""
    try:
        return json.dumps(json.loads(event), indent=2, ensure_ascii=False)
    except ValueError:
        return event


def _dead_letters(client: OkibaClient, name: str) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = []
    while True:
        query = {"after": letters[-1]["id"] if letters else "", "count": PAGE}
        page = client.get_json(_path(name), query)["dead_letters"]
        letters += page
        if len(page) < PAGE:
            return letters


def _path(name: str) -> str:
    return f"{function_path(name)}/dead-letters"


def _row(letter: dict[str, Any]) -> tuple[str, ...]:
    error = error_text(letter["error"]).splitlines()[-1]
    shortened = error if len(error) <= 60 else f"{error[:59]}…"
    died = clock(letter["died_ms"])
    return letter["function"], letter["id"], died, letter["reason"], str(letter["attempts"]), shortened
