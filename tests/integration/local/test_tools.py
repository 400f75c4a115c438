from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from okiba.adapters.local_python import find_interpreter, installed_runtimes
from okiba.apps.local import tools
from okiba.apps.local.ports import free_port, port_holder, require_free
from okiba.apps.local.slots import cgroups
from okiba.apps.local.tools import ensure_minio, find_minio, find_valkey, valkey_version
from okiba.core.errors import InvalidParameter, PlatformError, Unsupported

HERE = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one folder, to be filled; and no pyenv, no uv."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    find_interpreter.cache_clear()
    yield folder
    find_interpreter.cache_clear()


def test_a_dead_shim_on_path_is_passed_over_for_an_interpreter_that_runs(bare_path: Path, tmp_path: Path) -> None:
    program(bare_path / "python3.15", "echo 'pyenv: python3.15: command not found' >&2; exit 127")
    real = program(tmp_path / "pyenv/versions/3.15.1/bin/python3.15", f"echo '3.15|{tmp_path}/real'")
    assert real.exists()
    assert find_interpreter("python3.15") == tmp_path / "real"


def test_an_interpreter_of_another_version_than_its_name_is_not_taken(bare_path: Path) -> None:
    program(bare_path / "python3.15", f'exec {sys.executable} "$@"')
    assert find_interpreter("python3.15") is None


@pytest.mark.parametrize("runtime", ["python3.9", "python2.7", "nodejs20.x", "python3.11/../x", ""])
def test_what_is_no_runtime_of_okibas_has_no_interpreter(runtime: str) -> None:
    assert find_interpreter(runtime) is None


def test_the_python_that_this_runs_on_is_among_the_runtimes() -> None:
    assert HERE in installed_runtimes()


def test_a_server_that_is_too_old_is_passed_over_for_the_one_in_the_package(bare_path: Path) -> None:
    old = program(bare_path / "redis-server", "echo 'Redis server v=6.2.7 sha=0'")
    assert valkey_version(old) == 6
    assert valkey_version(find_valkey()) >= 7


def test_a_recent_server_on_path_is_preferred(bare_path: Path) -> None:
    recent = program(bare_path / "redis-server", "echo 'Redis server v=7.2.4 sha=0'")
    assert find_valkey() == recent


def test_minio_is_built_once_with_progress_and_found_afterwards(bare_path: Path, tmp_path: Path) -> None:
    program(
        bare_path / "go",
        'test "$1" = version && echo "go version go1.26 linux/amd64" && exit\n'
        'echo "golang.org/x/thing" >&2; mkdir -p "$GOMODCACHE" "$GOCACHE" "$GOPATH"\n'
        'printf built > "$GOBIN/minio"; chmod +x "$GOBIN/minio"',
    )
    environment, said = {"OKIBA_CACHE_DIR": str(tmp_path / "cache")}, []
    assert find_minio(environment) is None
    built = ensure_minio(environment, said.append)
    assert built == tmp_path / "cache/bin/minio"
    assert said[0].startswith("Building MinIO")
    assert ensure_minio(environment, said.append) == built == find_minio(environment)
    assert len(said) == 2
    assert sorted(entry.name for entry in (tmp_path / "cache").iterdir()) == ["bin", "build.lock"]


def test_a_build_that_says_nothing_for_long_is_told_to_go_on(
    bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        bare_path / "go",
        'test "$1" = version && echo "go version go1.26" && exit\n'
        'echo first/package; while test ! -e "$GOBIN/../seen"; do :; done; touch "$GOBIN/minio"',
    )
    monkeypatch.setattr(tools, "PROGRESS_S", 0.05)
    environment = {"OKIBA_CACHE_DIR": str(tmp_path / "cache")}
    said: list[str] = []

    def heard(line: str) -> None:
        said.append(line)
        if sum("first/package" in earlier for earlier in said) >= 3:
            (tmp_path / "cache/seen").touch()

    ensure_minio(environment, heard)
    assert re.fullmatch(r"  MinIO: 1 of about 1,540 packages, \d+ s; first/package", said[-2])


def test_a_failed_build_says_what_go_said_last_and_leaves_nothing(bare_path: Path, tmp_path: Path) -> None:
    program(
        bare_path / "go",
        'test "$1" = version && echo "go version go1.26" && exit\necho "no route to proxy" >&2; exit 1',
    )
    environment = {"OKIBA_CACHE_DIR": str(tmp_path / "cache")}
    with pytest.raises(PlatformError, match="no route"):
        ensure_minio(environment, lambda _: None)
    assert find_minio(environment) is None


def test_a_wrong_okiba_minio_is_refused_and_not_worked_around(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="OKIBA_MINIO must name"):
        find_minio({"OKIBA_MINIO": str(tmp_path)})


def test_a_free_port_is_free_and_has_no_holder() -> None:
    port = free_port()
    require_free(port, "a test", "--port")
    assert port_holder(port) == ""


def test_a_memory_cgroup_takes_a_limit_and_leaves_nothing() -> None:
    try:
        root = cgroups.Root.make(f"okiba-test-{os.getpid()}")
    except Unsupported as reason:
        pytest.skip(str(reason))
    group = root.group("a")
    inner = group / "inner"
    inner.mkdir()
    assert root.others({"b"}) == [group]
    assert root.others({"a"}) == []
    assert cgroups.remove_group(group)
    root.close()
    assert not group.parent.exists()


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        pytest.param(
            "4:memory:/docker/x\n0::/\n",
            "30 25 0:26 /docker/x {mount} rw - cgroup cgroup rw,memory\n",
            ("", 1),
            id="version 1, mounted at the container's own group",
        ),
        pytest.param(
            "0::/user/shell\n", "30 25 0:26 / {mount} rw - cgroup2 cgroup2 rw\n", ("user/shell", 2), id="version 2"
        ),
    ],
)
def test_the_hierarchy_is_read_from_what_the_kernel_says(
    tmp_path: Path, cgroup: str, mountinfo: str, expected: tuple[str, int]
) -> None:
    mount = tmp_path / "mount"
    own = mount / expected[0]
    own.mkdir(parents=True)
    (own / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup").write_text(cgroup)
    (tmp_path / "mountinfo").write_text(mountinfo.format(mount=mount))
    found = cgroups.hierarchy(tmp_path)
    assert (found.own.resolve(), found.version) == (own.resolve(), expected[1])
