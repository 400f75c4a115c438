"""Fixtures of the client commands' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from okiba.apps.cli import main
from tests.unit.cli.stand_in import StandIn, stand_in

Okiba = Callable[..., Result]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in for a running Okiba."""
    with stand_in(tmp_path / "state") as told:
        yield told


@pytest.fixture
def okiba(server: StandIn) -> Okiba:
    """Runs `okiba` against the stand-in."""

    def run(*arguments: str, input: str | None = None) -> Result:  # noqa: A002 (click's name)
        return CliRunner(env={"OKIBA_STATE_DIR": str(server.state)}).invoke(main, list(arguments), input=input)

    return run
