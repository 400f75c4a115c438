"""The program by itself: one agent, without a nursery."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.runtime.conftest import PROGRAM, alive, wait_until
from tests.integration.runtime.gateway import DEADLINE_S, Slot

HELLO = "def handler(event, context): return 'hello'"


@contextlib.contextmanager
def _run(*command: str, pass_fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=pass_fds, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def agent(interpreter):
    """Starts the program with these words."""
    return functools.partial(_run, interpreter, "-I", "-S", "-X", "utf8", str(PROGRAM))


def test_an_agent_says_when_it_is_ready_and_serves(agent, code, short_folder):
    with agent("--listen", f"unix:{short_folder}/s", "--private-tmp") as process:
        assert process.stdout.readline() == b"ready\n"
        slot = Slot(f"unix:{short_folder}/s", process.pid, short_folder)
        slot.specialize(code(HELLO))
        slot.greet()

        assert slot.invoke({}).json == "hello"
        slot.shut_down()
        assert process.wait(DEADLINE_S) == 0
    assert os.listdir(short_folder) == []


def test_an_agent_serves_over_tcp(agent, code):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with agent("--listen", f"tcp:127.0.0.1:{port}") as process:
        assert process.stdout.readline() == b"ready\n"
        slot = Slot(f"tcp:127.0.0.1:{port}", process.pid, "")
        slot.specialize(code(HELLO))
        slot.greet()

        assert slot.invoke({}).json == "hello"


def test_the_package_can_be_run_as_a_module(code, short_folder):
    with _run(sys.executable, "-m", "okiba_runtime", "--listen", f"unix:{short_folder}/s") as process:
        assert process.stdout.readline() == b"ready\n"
        slot = Slot(f"unix:{short_folder}/s", process.pid, short_folder)
        slot.specialize(code("import sys\ndef handler(event, context): return sys.path"))
        slot.greet()

        assert os.getcwd() not in slot.invoke({}).json


def test_an_agent_ends_with_its_lifeline(agent, short_folder):
    lifeline, held = os.pipe()
    with agent("--listen", f"unix:{short_folder}/s", "--lifeline", str(lifeline), pass_fds=(lifeline,)) as process:
        os.close(lifeline)
        assert process.stdout.readline() == b"ready\n"
        os.close(held)

        assert process.wait(DEADLINE_S) == 0
    wait_until(lambda: not alive(process.pid))


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--bogus", "x"], 2, b"--bogus: unknown"),
        (["--listen", "nonsense"], 1, b"expected unix:/path or tcp:host:port, got 'nonsense'"),
        (["--listen", "unix:/does/not/exist/s"], 1, b"No such file or directory"),
    ],
)
def test_an_agent_that_cannot_start_says_why_and_leaves_nothing(agent, words, status, message):
    with agent(*words) as process:
        _, told = process.communicate(timeout=DEADLINE_S)

        assert process.returncode == status
        assert message in told
