"""Options that every command has."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from okiba.apps.local.state import default_state_dir

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

ENDPOINT: Final = "OKIBA_ENDPOINT"
"""The variable that names the public port of an Okiba that has no state folder here; `okiba env` prints it there."""

PUBLISHED: Final = "OKIBA_PUBLISHED_ENDPOINT"
"""What a container is told that this port is to the user's shell."""


def state_option(command: Decorated) -> Decorated:
    """`--state DIR`, passed to the command as `state: Path`."""
    return click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        callback=_chosen,
        metavar="DIR",
        help="The installation's state folder.  [default: OKIBA_STATE_DIR, else ~/.local/state/okiba]",
    )(command)


def json_option(command: Decorated) -> Decorated:
    """`--json`, passed to the command as `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _chosen(_: click.Context, __: click.Parameter, named: Path | None) -> Path:
    return named.expanduser().absolute() if named else default_state_dir(os.environ)


def is_elsewhere(environment: Mapping[str, str], state_dir: Path) -> bool:
    """Whether the Okiba that is meant has no state folder here: OKIBA_ENDPOINT is set, and no folder was named."""
    named = environment.get("OKIBA_STATE_DIR") or state_dir != default_state_dir(environment)
    return bool(environment.get(ENDPOINT)) and not named
