from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from okiba.adapters import layer_zip
from okiba.adapters.layer_zip import compile_modules, pack
from okiba.core.errors import InvalidParameter
from okiba_runtime.parts import LIMITS, MAX_PACKED
from okiba_runtime.unpacking import unpack


@pytest.fixture
def layer(tmp_path):
    folder = tmp_path / "layer"
    (folder / "python" / "heavy").mkdir(parents=True)
    (folder / "python" / "heavy" / "__init__.py").write_text("names = {'b', 'a', 'c'}\n")
    (folder / "python" / "broken.py").write_text("def (")
    (folder / "bin").mkdir()
    (folder / "bin" / "run").write_text("#!/bin/sh\n")
    (folder / "bin" / "run").chmod(0o700)
    return folder


def _contents(path):
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def test_what_a_slot_unpacks_is_what_was_packed(layer, tmp_path):
    pack(layer, tmp_path / "layer.zip")

    unpack(memoryview((tmp_path / "layer.zip").read_bytes()), str(tmp_path / "unpacked"), LIMITS["layer"])

    unpacked = tmp_path / "unpacked"
    for path in layer.rglob("*"):
        if path.is_file():
            found = unpacked / path.relative_to(layer)
            assert found.read_bytes() == path.read_bytes()
            assert os.access(found, os.X_OK) == os.access(path, os.X_OK)


def test_the_same_files_make_the_same_archive_wherever_and_whenever_they_lie(layer, tmp_path):
    python = Path(sys.executable)
    compile_modules(layer, python)
    first = pack(layer, tmp_path / "first.zip")
    again = tmp_path / "elsewhere" / "layer"
    for path in sorted(layer.rglob("*.py"), reverse=True):
        target = again / path.relative_to(layer)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        os.utime(target, (0, 0))
    (again / "bin").mkdir()
    (again / "bin" / "run").write_text("#!/bin/sh\n")
    (again / "bin" / "run").chmod(0o755)

    compile_modules(again, python)

    assert pack(again, tmp_path / "second.zip") == first


def test_modules_come_compiled_and_valid_whatever_time_their_sources_get(layer, tmp_path):
    compile_modules(layer, Path(sys.executable))
    pack(layer, tmp_path / "layer.zip")

    compiled = [name for name in _contents(tmp_path / "layer.zip") if name.endswith(".pyc")]
    assert [name.rpartition("/")[2].partition(".")[0] for name in compiled] == ["__init__"]
    flags = _contents(tmp_path / "layer.zip")[compiled[0]][4:8]
    assert flags == b"\x01\x00\x00\x00"  # checked by hash, and never


def test_a_link_within_the_layer_is_packed_as_what_it_leads_to(layer, tmp_path):
    (layer / "python" / "alias.py").symlink_to("broken.py")
    pack(layer, tmp_path / "layer.zip")
    assert _contents(tmp_path / "layer.zip")["python/alias.py"] == b"def ("


def test_a_link_that_leads_out_of_the_layer_is_refused(layer, tmp_path):
    (layer / "python" / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(InvalidParameter, match="python/passwd is a link that leads out"):
        pack(layer, tmp_path / "layer.zip")


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [
        ("MAX_ENTRIES", 2, "3 files, at most 2"),
        ("MAX_UNPACKED", 30, "bytes installed, at most 30"),
        ("MAX_PACKED", 40, "bytes packed, at most 40"),
    ],
)
def test_a_layer_that_no_slot_would_take_is_refused_when_it_is_built(layer, tmp_path, monkeypatch, limit, value, why):
    monkeypatch.setattr(layer_zip, limit, value)
    with pytest.raises(InvalidParameter, match=why):
        pack(layer, tmp_path / "layer.zip")


def test_an_empty_layer_is_a_layer(tmp_path):
    (tmp_path / "layer" / "python").mkdir(parents=True)
    pack(tmp_path / "layer", tmp_path / "layer.zip")
    unpack(memoryview((tmp_path / "layer.zip").read_bytes()), str(tmp_path / "unpacked"), LIMITS["layer"])


def test_the_builder_s_limits_are_the_slot_s():
    assert (LIMITS["layer"].unpacked, LIMITS["layer"].entries) == (layer_zip.MAX_UNPACKED, layer_zip.MAX_ENTRIES)
    assert layer_zip.MAX_PACKED == MAX_PACKED
