"""`okiba doctor` of an Okiba elsewhere: only what its gateway tells counts."""

import json

import pytest
from click.testing import CliRunner

from okiba.apps.cli import main
from okiba.apps.gateway.store_view import minio_settings
from okiba.apps.local.state import FolderLock
from okiba.settings import Settings
from tests.unit.cli.stand_in import Answer
from tests.unit.cli.test_elsewhere import variables

SETTINGS = Settings(fleet="kubernetes", s3_webhook_url="http://okiba-admin.okiba.svc:4567", webhook_token="s3cret")
STATUS = {
    "components": {"redis": {"ok": True, "message": "answers"}, "jobs": {"ok": True, "message": ""}},
    "functions": [{"name": "thumbnails", "state": "Active", "reason": None}],
    "gateways": 2,
}
STORE = {
    "endpoint": "https://minio.example.org:9000",
    "ok": True,
    "message": "answers",
    "lanes": [{"name": "direct", "ok": True, "message": "the store reaches it"}],
    "buckets": [{"name": "uploads", "ok": True, "message": "announces", "functions": ["thumbnails"]}],
    "minio": minio_settings(SETTINGS),
}


@pytest.fixture
def doctor(server, tmp_path):
    environment = {**variables(server), "OKIBA_STATE_DIR": None, "XDG_STATE_HOME": str(tmp_path / "none")}

    def run(*arguments, status=STATUS, store=STORE):
        server.answers["GET /okiba/v1/status"] = Answer(status)
        server.answers["GET /okiba/v1/store"] = Answer(store)
        return CliRunner(env=environment).invoke(main, ["doctor", *arguments])

    return run


def test_all_is_well_and_the_settings_of_a_minio_are_printed_without_the_token(doctor):
    result = doctor()
    assert result.exit_code == 0, result.output
    assert "ok       bucket uploads: announces (thumbnails)" in result.output
    assert "6 checks: 6 fine, 0 to know about, 0 failed" in result.output
    assert "MINIO_NOTIFY_WEBHOOK_ENABLE_OKIBAQUEUED=on" in result.output
    assert (
        "mc admin config set ALIAS notify_webhook:OKIBADIRECT "
        'endpoint="http://okiba-admin.okiba.svc:4567/webhooks/s3/direct" auth_token="$OKIBA_WEBHOOK_TOKEN"'
    ) in result.output
    assert "webhook-token" in result.output
    assert "s3cret" not in result.output


@pytest.mark.parametrize(
    ("answers", "check", "said"),
    [
        pytest.param(
            {"status": {**STATUS, "components": {"jobs": {"ok": False, "message": "silent for 60 s"}}}},
            "jobs",
            "silent for 60 s",
            id="a part",
        ),
        pytest.param(
            {"status": {**STATUS, "functions": [{"name": "f", "state": "Failed", "reason": "no such layer"}]}},
            "function f",
            "no such layer",
            id="a function",
        ),
        pytest.param({"store": {**STORE, "ok": False, "message": "away"}}, "object store", "away", id="the store"),
        pytest.param(
            {"store": {**STORE, "lanes": [{"name": "direct", "ok": False, "message": "no target"}]}},
            "lane direct",
            "no target",
            id="a lane",
        ),
        pytest.param(
            {"store": {**STORE, "buckets": [{**STORE["buckets"][0], "ok": False, "message": "has no rule"}]}},
            "bucket uploads",
            "has no rule",
            id="a bucket",
        ),
    ],
)
def test_what_is_wrong_fails_and_says_what_to_do(doctor, answers, check, said):
    result = doctor("--json", **answers)
    told = json.loads(result.stdout)
    (failed,) = [finding for finding in told["findings"] if finding["verdict"] == "failed"]
    assert (result.exit_code, told["ok"], failed["check"]) == (1, False, check)
    assert said in failed["seen"]
    assert failed["advice"]


def test_a_gateway_that_does_not_answer_is_the_one_finding(server, tmp_path):
    away = {**variables(server), "OKIBA_ENDPOINT": "http://127.0.0.1:9", "OKIBA_STATE_DIR": None}
    result = CliRunner(env={**away, "XDG_STATE_HOME": str(tmp_path)}).invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "failed   gateway: Okiba does not answer at http://127.0.0.1:9" in result.output


def test_a_shell_that_did_not_tell_okiba_where_its_endpoint_is_gets_a_hint(tmp_path):
    environment = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "OKIBA_ENDPOINT": None, "OKIBA_STATE_DIR": None}
    result = CliRunner(env={**environment, "XDG_STATE_HOME": str(tmp_path)}).invoke(main, ["doctor"])
    assert "export OKIBA_ENDPOINT=http://127.0.0.1:9" in result.output


def test_in_one_of_okibas_containers_the_whole_is_checked_and_not_the_container(server):
    server.answers["GET /okiba/v1/status"] = Answer(STATUS)
    server.answers["GET /okiba/v1/store"] = Answer(STORE)
    environment = {"OKIBA_STATE_DIR": str(server.state), "OKIBA_PUBLISHED_ENDPOINT": "http://127.0.0.1:4566"}
    result = CliRunner(env=environment).invoke(main, ["doctor", "--json", "--show-token"])
    told = json.loads(result.stdout)
    assert {finding["check"] for finding in told["findings"]} == {
        *("gateway", "redis", "jobs", "object store", "lane direct", "bucket uploads")
    }
    token = json.loads((server.state / "credentials.json").read_text())["webhook_token"]
    assert told["minio"]["environment"]["MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_OKIBAQUEUED"] == token


def test_an_okiba_that_runs_without_its_credentials_is_a_finding_beside_the_machine_s(server):
    (server.state / "credentials.json").unlink()
    with FolderLock(server.state):
        result = CliRunner(env={"OKIBA_STATE_DIR": str(server.state), "OKIBA_ENDPOINT": None}).invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "failed   credentials: Okiba runs, but" in result.output
    assert "checks:" in result.output
