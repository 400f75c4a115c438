"""An Okiba without a state folder here: in containers, on a cluster."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from okiba.apps.cli import main
from okiba.apps.cli.client import OkibaClient
from okiba.apps.cli.options import is_elsewhere
from okiba.core.errors import InvalidParameter
from tests.unit.cli.stand_in import Answer, StandIn


def variables(server: StandIn) -> dict[str, str]:
    """What `okiba env` in a container of that Okiba prints."""
    here = OkibaClient.from_state(server.state)
    return {
        "OKIBA_ENDPOINT": here.endpoint,
        "AWS_ENDPOINT_URL_S3": here.s3_endpoint,
        "AWS_ACCESS_KEY_ID": here.access_key,
        "AWS_SECRET_ACCESS_KEY": here.secret_key,
        "AWS_DEFAULT_REGION": "eu-central-1",
    }


def test_commands_go_to_the_endpoint_that_the_shell_names(server: StandIn, tmp_path: Path) -> None:
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": []})
    environment = {**variables(server), "OKIBA_STATE_DIR": None, "XDG_STATE_HOME": str(tmp_path / "none")}
    result = CliRunner(env=environment).invoke(main, ["list"])
    assert result.exit_code == 0, result.output
    assert "/eu-central-1/lambda/" in server.requests[0].headers["Authorization"]


def test_a_folder_that_is_named_goes_before_the_endpoint(server: StandIn) -> None:
    named = {"OKIBA_ENDPOINT": "http://127.0.0.1:9", "OKIBA_STATE_DIR": str(server.state)}
    assert not is_elsewhere(named, server.state)
    assert not is_elsewhere({"OKIBA_ENDPOINT": "http://127.0.0.1:9"}, server.state)
    assert is_elsewhere({"OKIBA_ENDPOINT": "http://127.0.0.1:9"}, Path.home() / ".local/state/okiba")


def test_half_of_the_variables_is_refused_with_the_name_of_the_missing_one(server: StandIn, tmp_path: Path) -> None:
    half = {name: value for name, value in variables(server).items() if name != "AWS_SECRET_ACCESS_KEY"}
    with pytest.raises(InvalidParameter, match="AWS_SECRET_ACCESS_KEY"):
        OkibaClient.from_variables(tmp_path, half)


def test_an_endpoint_that_does_not_answer_is_named(server: StandIn, tmp_path: Path) -> None:
    away = {**variables(server), "OKIBA_ENDPOINT": "http://127.0.0.1:9", "OKIBA_STATE_DIR": None}
    result = CliRunner(env={**away, "XDG_STATE_HOME": str(tmp_path)}).invoke(main, ["list"])
    assert result.exit_code == 1
    assert "does not answer at http://127.0.0.1:9, which OKIBA_ENDPOINT names" in result.output


def test_env_in_a_container_prints_the_endpoint_that_the_users_shell_can_reach(server: StandIn) -> None:
    environment = {"OKIBA_STATE_DIR": str(server.state), "OKIBA_PUBLISHED_ENDPOINT": "http://127.0.0.1:14566"}
    printed = CliRunner(env=environment).invoke(main, ["env"]).output
    assert "export OKIBA_ENDPOINT=http://127.0.0.1:14566\n" in printed
    assert "OKIBA_ENDPOINT" not in CliRunner(env={"OKIBA_STATE_DIR": str(server.state)}).invoke(main, ["env"]).output
