import asyncio
import base64
import json
import time
from hashlib import sha256
from pathlib import Path

import pytest

from okiba.adapters.package_child import read_body, read_zip, unpack
from okiba.core.errors import InvalidParameter, InvalidRequestContent, PlatformError
from tests.unit.control.archives import lawful

ZIP = lawful({"app.py": b"x = 1\n"})
DIGEST = sha256(ZIP).hexdigest()


def _spooled(folder, body):
    (folder / "body").write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
    return folder / "body"


def _encoded(content):
    return base64.b64encode(content).decode()


async def test_a_creation_is_taken_apart_into_fields_and_zip(tmp_path):
    body = {"FunctionName": "f", "Code": {"ZipFile": _encoded(ZIP)}}
    upload = await read_body(_spooled(tmp_path, body), tmp_path)
    assert upload.fields == {"FunctionName": "f", "Code": {}}
    assert upload.package.sha256 == DIGEST
    assert (tmp_path / f"{DIGEST}.zip").read_bytes() == ZIP


async def test_an_update_has_its_zip_beside_the_other_fields(tmp_path):
    upload = await read_body(_spooled(tmp_path, {"ZipFile": _encoded(ZIP), "DryRun": True}), tmp_path)
    assert (upload.fields, upload.package.packed_bytes) == ({"DryRun": True}, len(ZIP))


async def test_a_body_that_names_a_bucket_has_no_package(tmp_path):
    body = {"Code": {"S3Bucket": "b", "S3Key": "k"}}
    assert (await read_body(_spooled(tmp_path, body), tmp_path)).package is None


async def test_a_zip_from_a_bucket_is_checked_and_moved(tmp_path):
    (tmp_path / "fetched").write_bytes(ZIP)
    assert (await read_zip(tmp_path / "fetched", tmp_path)).sha256 == DIGEST
    assert (tmp_path / f"{DIGEST}.zip").exists()


async def test_a_stored_package_is_unpacked(tmp_path):
    (tmp_path / "stored.zip").write_bytes(ZIP)
    folder = await unpack(tmp_path / "stored.zip", tmp_path, DIGEST)
    assert (folder / "app.py").read_bytes() == b"x = 1\n"


async def test_a_damaged_stored_package_is_the_platforms_fault(tmp_path):
    (tmp_path / "stored.zip").write_bytes(ZIP)
    with pytest.raises(PlatformError, match="damaged"):
        await unpack(tmp_path / "stored.zip", tmp_path, "0" * 64)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(b"{", InvalidRequestContent, id="half an object"),
        pytest.param(b"[" * 1_000_000, InvalidRequestContent, id="a depth bomb"),
        pytest.param(b'{"Code": NaN}', InvalidRequestContent, id="NaN"),
        pytest.param({"ZipFile": 7}, InvalidParameter, id="a ZipFile that is a number"),
        pytest.param({"ZipFile": "n\u00f6"}, InvalidParameter, id="a ZipFile that is not ASCII"),
        pytest.param({"ZipFile": "AAA"}, InvalidParameter, id="base64 of the wrong length"),
        pytest.param({"ZipFile": "A A="}, InvalidParameter, id="base64 with a space"),
        pytest.param({"ZipFile": ""}, InvalidParameter, id="an empty ZipFile"),
        pytest.param({"Code": {"ZipFile": _encoded(b"no zip")}}, InvalidParameter, id="a ZipFile that is none"),
        pytest.param({"Description": "x" * 131_072}, InvalidParameter, id="a description of 128 KiB"),
    ],
)
async def test_a_broken_body_is_the_callers_fault(body, error, tmp_path):
    with pytest.raises(error):
        await read_body(_spooled(tmp_path, body), tmp_path)


async def test_a_body_that_takes_more_memory_than_allowed_is_refused(tmp_path):
    with (tmp_path / "body").open("wb") as file:
        file.truncate(1_200_000_000)  # a hole: takes no disk
    with pytest.raises(InvalidParameter, match="memory"):
        await read_body(tmp_path / "body", tmp_path)


async def test_the_child_sees_nothing_of_this_processes_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OKIBA_PLATFORM_KEY", "canary")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    assert (await read_body(_spooled(tmp_path, {"a": 1}), tmp_path)).fields == {"a": 1}


async def test_a_reader_who_is_cancelled_leaves_no_child(tmp_path):
    path = _spooled(tmp_path, {"ZipFile": _encoded(lawful({str(number): b"x" for number in range(5_000)}))})
    others = _children()
    reading = asyncio.create_task(read_body(path, tmp_path))
    deadline = time.monotonic() + 10
    while not (children := _children() - others):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not _children() & children


def _children():
    """Process ids of children of any thread of ours."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
