from __future__ import annotations

import json
from pathlib import Path

import pytest

from okiba.apps.local.credentials import ensure_credentials, read_credentials
from okiba.apps.local.state import (
    FolderLock,
    Installation,
    default_state_dir,
    ensure_sockets_folder,
    lock_holder,
    prepare_folders,
    read_installation,
    write_installation,
)
from okiba.core.errors import Conflict, InvalidRequestContent, NotFound, Unsupported

HERE = Installation(4566, 4567, 9000, Path("/tmp/okiba-x"))


def test_an_installation_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_installation(tmp_path, HERE)
    assert read_installation(tmp_path) == HERE


def test_a_format_that_this_release_does_not_know_is_refused_and_left_alone(tmp_path: Path) -> None:
    written = json.dumps({"format": 2, "gateway_port": 1})
    (tmp_path / "okiba.json").write_text(written)
    with pytest.raises(Unsupported, match="has format 2; this release of Okiba knows format 1 only"):
        read_installation(tmp_path)
    assert (tmp_path / "okiba.json").read_text() == written


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 1, "gateway_port": "x", "admin_port": 1, "s3_port": 1, "sockets": ""}',
    ],
    ids=["empty", "cut off", "a list", "no ports", "a port that is none"],
)
def test_a_corrupt_okiba_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "okiba.json").write_text(content)
    with pytest.raises(InvalidRequestContent, match=r"okiba\.json is corrupt"):
        read_installation(tmp_path)


def test_a_folder_without_an_installation_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="okiba up"):
        read_installation(tmp_path)


def test_a_folder_full_of_other_things_is_not_taken_for_a_state_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(Conflict, match="thesis"):
        prepare_folders(tmp_path)


def test_credentials_are_made_once_and_are_only_their_owners(tmp_path: Path) -> None:
    made = ensure_credentials(tmp_path)
    assert ensure_credentials(tmp_path) == made == read_credentials(tmp_path)
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_lost_credentials_are_not_replaced_by_new_ones(tmp_path: Path) -> None:
    write_installation(tmp_path, HERE)
    with pytest.raises(InvalidRequestContent, match="is lost"):
        ensure_credentials(tmp_path)


def test_corrupt_credentials_are_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text('{"admin_access_key": "x"}')
    with pytest.raises(InvalidRequestContent, match="admin_secret_key is missing"):
        ensure_credentials(tmp_path)


def test_a_second_holder_of_the_lock_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        holder = lock_holder(tmp_path)
        with pytest.raises(Conflict, match=f"already runs on .* \\(process {holder}\\)"), FolderLock(tmp_path):
            pass
    assert lock_holder(tmp_path) is None


def test_sockets_get_a_new_folder_when_the_old_one_is_gone_or_open_to_others(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    assert ensure_sockets_folder(mine, {}) == mine
    mine.chmod(0o755)
    others = ensure_sockets_folder(mine, {"XDG_RUNTIME_DIR": str(tmp_path)[:20]})
    assert others != mine
    assert others.stat().st_mode & 0o777 == 0o700
    others.rmdir()


def test_the_state_folder_is_where_the_user_says() -> None:
    assert default_state_dir({"OKIBA_STATE_DIR": "/a"}) == Path("/a")
    assert default_state_dir({"XDG_STATE_HOME": "/b"}) == Path("/b/okiba")
    assert default_state_dir({}) == Path.home() / ".local/state/okiba"


def test_the_home_of_a_folder_that_does_not_say_it_is_the_default(tmp_path: Path) -> None:
    write_installation(tmp_path, Installation(1, 2, 3, tmp_path, "eu-west-1", "123456789012"))
    assert read_installation(tmp_path).region == "eu-west-1"
    document = json.loads((tmp_path / "okiba.json").read_text())
    assert document.pop("region") == "eu-west-1"
    assert document.pop("account_id") == "123456789012"
    (tmp_path / "okiba.json").write_text(json.dumps(document))
    assert read_installation(tmp_path) == Installation(1, 2, 3, tmp_path, "us-east-1", "000000000000")
