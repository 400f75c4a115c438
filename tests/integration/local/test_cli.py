from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from okiba.apps.cli import COMMANDS, main
from okiba.apps.local.credentials import ensure_credentials
from okiba.apps.local.state import Installation, write_installation


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_of_the_table_exists_and_takes_a_state_folder(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    assert all("--state" in option.opts for leaf in leaves for option in leaf.params if option.name == "state")
    assert all(any(option.name == "state" for option in leaf.params) for leaf in leaves)


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["fly"]).exit_code == 2


def test_an_error_of_okibas_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["env", "--state", str(tmp_path)])
    assert ran.exit_code == 1
    assert ran.output.startswith("okiba: there is no Okiba in ")
    assert ran.output.count("\n") == 1


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from okiba.apps.cli import main; main(['--help'], standalone_mode=False); "
        "print([name for name in sys.modules if name.startswith('okiba.apps.cli.')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().endswith("[]")


def test_env_names_the_installations_region_and_drops_a_session_token(tmp_path: Path) -> None:
    ensure_credentials(tmp_path)
    write_installation(tmp_path, Installation(1, 2, 3, tmp_path, region="eu-west-1"))
    lines = CliRunner().invoke(main, ["env", "--state", str(tmp_path)]).output.splitlines()
    assert "export AWS_DEFAULT_REGION=eu-west-1" in lines
    assert lines[-1] == "unset AWS_SESSION_TOKEN"
