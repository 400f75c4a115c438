"""The slot's own reader of archives, held against the platform's: what that one refuses, this one does."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from okiba.adapters.package_zip import check
from okiba.core.errors import InvalidParameter
from okiba_runtime.archive import BadArchive
from okiba_runtime.parts import LIMITS
from okiba_runtime.unpacking import Limits, unpack
from tests.unit.control.archives import Archive, Member, lawful
from tests.unit.control.test_package_zip import HOSTILE, LAWFUL

# Of no danger to a slot, whose file system is Linux's; a layer of no packages is empty.
TAKEN_HERE = {
    "an empty zip",
    "folders only",
    "names that differ by case",
    "folders that differ by case",
    "names that differ by Unicode form",
    "a folder that is also a file",
}
FOLDERS = "10,001 folders in 30 paths"  # made before they are found to be too many: tried with a lower limit
REFUSED = {name: made for name, made in HOSTILE.items() if name not in {*TAKEN_HERE, FOLDERS}}


def _content(made):
    return made if isinstance(made, bytes) else made.bytes()


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("made", REFUSED.values(), ids=REFUSED.keys())
def test_an_archive_that_the_platform_refuses_is_refused_and_touches_nothing_outside(made, tmp_path):
    with pytest.raises(BadArchive):
        unpack(memoryview(_content(made)), str(tmp_path / "content"), LIMITS["code"])

    assert {path.name for path in tmp_path.iterdir()} <= {"content"}


def test_folders_that_stand_in_paths_alone_are_counted_as_they_are_made(tmp_path):
    few = replace(LIMITS["code"], entries=500)
    with pytest.raises(BadArchive, match="over 500 folders"):
        unpack(memoryview(_content(HOSTILE[FOLDERS])), str(tmp_path / "content"), few)


@pytest.mark.parametrize("made", LAWFUL.values(), ids=LAWFUL.keys())
def test_a_lawful_archive_is_unpacked_as_it_was_packed(made, tmp_path):
    content = _content(made)

    unpack(memoryview(content), str(tmp_path / "content"), LIMITS["code"])

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        expected = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    assert _files(tmp_path / "content") == expected


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings.default.max_examples * 2)
def test_of_a_damaged_archive_both_readers_say_the_same(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("archive")
    content = bytearray(Archive([Member("lib/a.py", b"y = 2\n" * 50), Member("b.py", b"")]).bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "package.zip").write_bytes(content)
    try:
        check(folder / "package.zip")
        lawful_to_platform = True
    except InvalidParameter:
        lawful_to_platform = False

    try:
        unpack(memoryview(bytes(content)), str(folder / "content"), LIMITS["code"])
        lawful_to_slot = True
    except BadArchive:
        lawful_to_slot = False

    assert lawful_to_slot == lawful_to_platform


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(unpacked=9, entries=10), "10 bytes unpacked, at most 9 are allowed"),
        (Limits(unpacked=10, entries=1), "2 entries, at most 1 are allowed"),
    ],
)
def test_an_archive_may_be_as_large_as_its_limits_and_no_larger(limits, why, tmp_path):
    content = lawful({"a": b"12345", "b": b"12345"})

    unpack(memoryview(content), str(tmp_path / "whole"), Limits(unpacked=10, entries=2))
    with pytest.raises(BadArchive, match=why):
        unpack(memoryview(content), str(tmp_path / "refused"), limits)

    assert not (tmp_path / "refused").exists()


def test_executable_bits_are_kept_and_all_others_dropped(tmp_path):
    content = Archive([Member("run.sh", mode=0o100777), Member("app.py", mode=0o100000)]).bytes()

    unpack(memoryview(content), str(tmp_path / "content"), LIMITS["code"])

    assert os.access(tmp_path / "content" / "run.sh", os.X_OK)
    assert (tmp_path / "content" / "app.py").stat().st_mode & 0o777 == 0o644
