from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from okiba.apps.local.processes import LOG_BYTES, keep_small, start_time
from okiba.apps.local.state import lock_holder
from tests.integration.local.conftest import wait_until

COMPONENTS = ("valkey", "minio", "gateway", "controller", "jobs")
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a supervisor over small programs; ends it after the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(**variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.fakes.site", str(tmp_path)]
        environment = {**os.environ, **variables}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for supervisor in started:
        if supervisor.poll() is None:
            supervisor.terminate()
        supervisor.communicate(timeout=30)


def until_ready(supervisor: subprocess.Popen[str]) -> None:
    for line in supervisor.stdout:
        if line == "ready\n":
            return
    raise AssertionError(supervisor.stderr.read())


def pid_of(state: Path, name: str) -> int:
    return int((state / f"{name}.pid").read_text())


def story(state: Path) -> list[str]:
    return (state / "story").read_text().splitlines()


def test_stores_start_first_then_bootstrap_then_the_platform(start: Start, tmp_path: Path) -> None:
    until_ready(start())
    told = story(tmp_path)
    assert set(told[:2]) == {"valkey starts", "minio starts"}
    assert told[2] == "bootstrap starts"
    assert set(told[3:]) == {"gateway starts", "controller starts", "jobs starts"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_the_platform_first_and_then_the_stores(start: Start, tmp_path: Path, number: int) -> None:
    supervisor = start()
    until_ready(supervisor)
    supervisor.send_signal(number)
    assert supervisor.wait(20) == 0
    ends = [line for line in story(tmp_path) if line.endswith("ends")]
    assert len(ends) == 5
    assert set(ends[3:]) == {"valkey ends", "minio ends"}
    assert lock_holder(tmp_path) is None


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_that_is_killed_is_started_again(start: Start, tmp_path: Path, name: str) -> None:
    until_ready(start())
    before = pid_of(tmp_path, name)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pid_of(tmp_path, name) != before and story(tmp_path).count(f"{name} starts") == 2)


def test_what_a_killed_component_had_started_does_not_stay_behind(start: Start, tmp_path: Path) -> None:
    until_ready(start(OKIBA_TEST_FORKING="gateway"))
    wait_until((tmp_path / "grandchild.pid").exists)
    grandchild = pid_of(tmp_path, "grandchild")
    os.kill(pid_of(tmp_path, "gateway"), signal.SIGKILL)
    wait_until(lambda: start_time(grandchild) is None)


def test_kill_9_of_the_supervisor_leaves_no_component_and_no_lock(start: Start, tmp_path: Path) -> None:
    supervisor = start()
    until_ready(supervisor)
    pids = [pid_of(tmp_path, name) for name in COMPONENTS]
    supervisor.kill()
    wait_until(lambda: all(start_time(pid) is None for pid in pids), patience_s=5)
    assert lock_holder(tmp_path) is None


@pytest.mark.parametrize("name", ["minio", "bootstrap", "jobs"])
def test_a_component_that_cannot_start_ends_the_start_with_its_last_words(
    start: Start, tmp_path: Path, name: str
) -> None:
    supervisor = start(OKIBA_TEST_BROKEN=name)
    _, errors = supervisor.communicate(timeout=20)
    assert supervisor.returncode == 1
    assert f"{name} exited with code 3" in errors
    assert "cannot find my configuration" in errors
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert all(start_time(pid) is None for pid in pids)


def test_a_signal_while_it_starts_ends_what_has_started(start: Start, tmp_path: Path) -> None:
    supervisor = start()
    assert supervisor.stdout.readline().startswith("Starting valkey")
    wait_until((tmp_path / "valkey.pid").exists)
    supervisor.terminate()
    assert supervisor.wait(20) == 0
    assert start_time(pid_of(tmp_path, "valkey")) is None


def test_a_component_whose_program_is_gone_for_a_while_is_started_when_it_is_back(start: Start, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    supervisor = start()
    until_ready(supervisor)
    before = pid_of(tmp_path, "jobs")
    logs.rename(tmp_path / "moved")  # nothing can be started without its log
    os.kill(before, signal.SIGKILL)
    deaths = [supervisor.stderr.readline() for _ in range(2)]  # its own, and that of the first attempt after it
    assert all("died and is started again" in death for death in deaths)
    (tmp_path / "moved").rename(logs)
    wait_until(lambda: story(tmp_path).count("jobs starts") == 2)


def test_a_log_that_cannot_be_cut_stays_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "jobs.log"
    (tmp_path / "jobs.log.1").mkdir()
    with log.open("wb") as file:
        file.truncate(LOG_BYTES + 1)
    keep_small(log)
    assert log.stat().st_size == LOG_BYTES + 1
