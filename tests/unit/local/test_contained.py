"""What containers of one machine share: a folder prepared once, and secrets that come from it."""

import json
from pathlib import Path

import pytest

from okiba.apps.local.contained import main, prepare, process_environment
from okiba.apps.local.credentials import read_credentials
from okiba.apps.local.state import read_installation
from okiba.settings import Settings


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """As docker-compose.yml sets it, elsewhere."""
    return {
        "OKIBA_STATE_DIR": str(tmp_path / "state"),
        "OKIBA_STORE_SETTINGS": str(tmp_path / "settings"),
        "OKIBA_STORE_QUEUE": "/data/queue",
        "OKIBA_S3_WEBHOOK_URL": "http://gateway:4567",
        "OKIBA_GATEWAY_ADDRESS": "0.0.0.0:14566",
        "OKIBA_ADMIN_ADDRESS": "0.0.0.0:4567",
        "OKIBA_S3_ENDPOINT": "http://minio:19000",
        "OKIBA_REDIS_URL": "unix:///run/okiba/valkey",
    }


def settings_of(file: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in Path(file).read_text().splitlines())


def test_preparing_again_keeps_every_secret(environment: dict[str, str], tmp_path: Path) -> None:
    prepare(environment)
    before = read_credentials(tmp_path / "state"), settings_of(environment["OKIBA_STORE_SETTINGS"])
    prepare(environment)
    assert (read_credentials(tmp_path / "state"), settings_of(environment["OKIBA_STORE_SETTINGS"])) == before


def test_the_store_is_told_both_lanes_and_its_root_key_in_a_file_for_its_owner_alone(
    environment: dict[str, str], tmp_path: Path
) -> None:
    prepare(environment)
    told, credentials = settings_of(environment["OKIBA_STORE_SETTINGS"]), read_credentials(tmp_path / "state")
    assert told["MINIO_ROOT_PASSWORD"] == credentials.s3_secret_key
    assert told["MINIO_NOTIFY_WEBHOOK_ENDPOINT_OKIBADIRECT"] == "http://gateway:4567/webhooks/s3/direct"
    assert told["MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_OKIBAQUEUED"] == credentials.webhook_token
    assert told["MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_OKIBAQUEUED"] == "/data/queue"
    assert Path(environment["OKIBA_STORE_SETTINGS"]).stat().st_mode & 0o777 == 0o600


def test_the_installation_has_the_ports_that_are_published(environment: dict[str, str], tmp_path: Path) -> None:
    prepare(environment)
    installation = read_installation(tmp_path / "state")
    assert (installation.gateway_port, installation.s3_port) == (14566, 19000)


def test_processes_get_the_platforms_secrets_and_not_the_users(environment: dict[str, str], tmp_path: Path) -> None:
    prepare(environment)
    credentials = read_credentials(tmp_path / "state")
    given = process_environment(environment, credentials)
    assert Settings.from_environment(given).platform_key == credentials.platform_key
    assert credentials.admin_secret_key not in json.dumps(given)


def test_a_process_before_its_folder_is_prepared_ends_with_a_clear_message(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=r"no credentials\.json"):
        main(["run", "gateway"])


def test_what_is_not_understood_is_answered_with_the_usage() -> None:
    with pytest.raises(SystemExit, match="usage: contained"):
        main(["start"])
