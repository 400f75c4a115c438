"""A folder as a package: the same bytes for the same content, and nothing that cannot be carried."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest

from okiba.adapters.package_zip import check
from okiba.apps.cli import packing
from okiba.apps.cli.packing import packed, packed_inline
from okiba.core.errors import InvalidParameter


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"content of {name}")
    return path


def names(zipped: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(zipped)).namelist()


def test_the_same_content_makes_the_same_package_whenever_and_however_it_was_written(tmp_path: Path) -> None:
    first = folder(tmp_path / "a", "app.py", "lib/x.py", "lib/y.py")
    second = folder(tmp_path / "b", "lib/y.py", "lib/x.py", "app.py")
    os.utime(second / "app.py", (1, 1))
    (second / "lib/x.py").chmod(0o600)
    assert packed(first) == packed(second)


def test_a_changed_byte_or_an_executable_bit_changes_the_package(tmp_path: Path) -> None:
    code = folder(tmp_path, "app.py")
    before = packed(code).sha256
    (code / "app.py").chmod(0o755)
    executable = packed(code).sha256
    (code / "app.py").write_text("other")
    assert len({before, executable, packed(code).sha256}) == 3


def test_the_digest_is_spelled_as_lambda_spells_it(tmp_path: Path) -> None:
    package = packed(folder(tmp_path, "app.py"))
    assert package.sha256 == base64.b64encode(hashlib.sha256(package.zipped).digest()).decode()


def test_caches_and_repositories_are_left_out_at_any_depth(tmp_path: Path) -> None:
    code = folder(tmp_path, "app.py", ".git/HEAD", "lib/__pycache__/x.pyc", ".venv/bin/python", "lib/x.py", ".hidden")
    assert names(packed(code).zipped) == [".hidden", "app.py", "lib/x.py"]


def test_requirements_are_read_and_stay_in_the_package(tmp_path: Path) -> None:
    code = folder(tmp_path, "app.py")
    assert packed(code).requirements == ""
    (code / "requirements.txt").write_text("pillow==13.0.0\n")
    package = packed(code)
    assert package.requirements == "pillow==13.0.0\n"
    assert "requirements.txt" in names(package.zipped)


def test_the_gateway_takes_what_is_packed_here(tmp_path: Path) -> None:
    code = folder(tmp_path / "code", "app.py", "lib/é.py")
    (tmp_path / "package.zip").write_bytes(packed(code).zipped)
    assert check(tmp_path / "package.zip").files == 2


def test_symbolic_links_are_refused_by_name(tmp_path: Path) -> None:
    code = folder(tmp_path, "app.py")
    (code / "link.py").symlink_to("app.py")
    with pytest.raises(InvalidParameter, match=r"link\.py is a symbolic link"):
        packed(code)


def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(folder(tmp_path, "app.py") / "pipe")
    with pytest.raises(InvalidParameter, match="pipe is neither a file nor a folder"):
        packed(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="no files to package"):
        packed(tmp_path)


@pytest.mark.parametrize(("limit", "said"), [("MAX_ZIPPED", "makes a package of"), ("MAX_UNZIPPED", "holds more than")])
def test_a_package_that_is_too_large_is_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, said: str
) -> None:
    monkeypatch.setattr(packing, limit, 10)
    with pytest.raises(InvalidParameter, match=rf"{said}.*\b10\b"):
        packed(folder(tmp_path, "app.py"))


def test_inline_code_is_index_py() -> None:
    package = packed_inline("pass\n")
    assert names(package.zipped) == ["index.py"]
    assert package == packed_inline("pass\n")


def test_requirements_that_are_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").mkdir()
    (tmp_path / "requirements.txt" / "inner").write_text("x")
    with pytest.raises(InvalidParameter, match=r"requirements\.txt cannot be read: Is a directory"):
        packed(tmp_path)


def test_a_name_that_is_not_utf_8_is_refused_and_shown(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"photo-\xff.py")).write_text("x")
    with pytest.raises(InvalidParameter, match=r"photo-\\xff\.py is not UTF-8"):
        packed(tmp_path)
