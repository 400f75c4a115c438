"""`okiba status`: what the gateway says of the whole platform, or that there is none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from okiba.apps.cli.options import json_option, state_option
from okiba.apps.cli.output import clock, shortened
from okiba.apps.local.state import lock_holder
from okiba.core.errors import OkibaError

NEXT_RETRY: Final = "next_retry_ms"


@click.command(short_help="Show what runs, what waits and what went wrong.")
@state_option
@json_option
def status(state: Path, *, as_json: bool) -> None:
    """Show what runs, what waits and what went wrong. Exit code 1 when Okiba does not run or does not answer."""
    from okiba.apps.cli.client import OkibaClient

    try:
        answer = OkibaClient.from_state(state).get_json("/okiba/v1/status")
    except OkibaError as error:
        _down(state, str(error), as_json=as_json)
    if as_json:
        click.echo(json.dumps({"running": True, **answer}, indent=2))
    else:
        click.echo("\n".join(_lines(answer)))


def _down(state: Path, reason: str, *, as_json: bool) -> None:
    holder = lock_holder(state)
    text = f"Okiba runs on {state} (process {holder}) but does not answer" if holder else "Okiba is down"
    if as_json:
        click.echo(json.dumps({"running": holder is not None, "reason": reason}, indent=2))
    else:
        click.echo(f"{text}: {reason}")
    sys.exit(1)


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The answer as a page; parts that a later release adds are shown too, as they come."""
    for title, content in answer.items():
        if isinstance(content, Mapping):
            yield from _table(title, [{"": shortened(name), **_cells(row)} for name, row in content.items()])
        elif isinstance(content, Sequence) and not isinstance(content, str):
            yield from _table(title, [_cells(row) for row in content])
        else:
            yield f"{_words(title)}: {_plain(content)}"


def _cells(row: object) -> dict[str, Any]:
    if isinstance(row, Mapping):
        return dict(_cell(name, value) for name, value in row.items())
    return {" ": _plain(row)}


def _cell(name: str, value: object) -> tuple[str, str]:
    """A column's name and what stands in it; a wall clock as people read it."""
    if name == NEXT_RETRY:
        return name.removesuffix("_ms"), clock(value) if isinstance(value, int) else ""
    return name, _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={inner}" for name, inner in value.items())
    if isinstance(value, list):
        return " ".join(_plain(inner) for inner in value)
    return "" if value is None else shortened(str(value))


def _table(title: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{_words(title)}:" if rows else f"{_words(title)}: none"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[_words(name) for name in columns]] if any(name.strip() for name in columns) else []
    lines += [[row.get(name, "") for name in columns] for row in rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _words(name: str) -> str:
    return name.replace("_", " ")
