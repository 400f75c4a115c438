"""Images packed without a registry's tools."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest

from tests.cluster.making.archive import contents, pack

IMAGE = "localhost/something:1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to be an image."""
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "program").write_bytes(b"#!/bin/sh\n")
    (folder / "link").symlink_to("program")
    return folder


def test_the_same_folder_gives_the_same_image_whenever_it_is_packed(root, tmp_path):
    archives = [tmp_path / "one.tar", tmp_path / "two.tar"]
    pack(IMAGE, root, {"Entrypoint": ["/program"]}, archives[0])
    (root / "program").touch()
    pack(IMAGE, root, {"Entrypoint": ["/program"]}, archives[1])
    assert contents(archives[0]) == contents(archives[1])


def test_another_configuration_is_another_image_of_the_same_name(root, tmp_path):
    pack(IMAGE, root, {"User": "1"}, tmp_path / "one.tar")
    pack(IMAGE, root, {"User": "2"}, tmp_path / "two.tar")
    one, two = contents(tmp_path / "one.tar"), contents(tmp_path / "two.tar")
    assert one.keys() == two.keys() == {IMAGE}
    assert one != two


def test_every_blob_is_named_by_its_own_hash(root, tmp_path):
    pack(IMAGE, root, {}, tmp_path / "one.tar")
    with tarfile.open(tmp_path / "one.tar") as archive:
        blobs = {
            member.name: archive.extractfile(member) for member in archive if member.name.startswith("blobs/sha256/")
        }
        assert len(blobs) == 3
        for name, file in blobs.items():
            assert file
            assert name == f"blobs/sha256/{hashlib.sha256(file.read()).hexdigest()}"
