"""Slots out of real nurseries, on up to three versions of Python."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from okiba.adapters.local_python import installed_runtimes
from tests.integration.runtime.gateway import DEADLINE_S, Connection, Slot

PROGRAM = Path(__file__).parents[3] / "runtime" / "okiba_runtime" / "__main__.py"

PYTHONS = ("current", "oldest", "newest")
"""The Python that runs the tests, and the outermost of the others on this machine that slots may have."""


def python_of(which: str) -> str:
    """Its path; the test is skipped where this machine has none that is not tested already."""
    others = [str(path) for name, path in installed_runtimes().items() if name != f"python3.{sys.version_info.minor}"]
    if which == "current":
        return sys.executable
    if len(others) < (1 if which == "oldest" else 2):
        pytest.skip(f"runtime not tested on the {which} other Python: only {len(others)} from 3.10 on beside this one")
    return others[0] if which == "oldest" else others[-1]


@dataclass
class Nursery:
    """A nursery process and the test's end of its socket."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    lifeline: int
    folder: str
    count: int = 0
    told: bytes = b""
    ended: set[int] = field(default_factory=set)

    def slot(self, *, private_tmp: bool = True, cgroup: str = "") -> Slot:
        self.count += 1
        listen = f"unix:{self.folder}/{self.count}"
        wish = {"listen": listen, "private_tmp": private_tmp, "cgroup": cgroup}
        self.socket.sendall(json.dumps(wish).encode() + b"\n")
        told = self.await_line(lambda line: line.get("listen") == listen)
        assert "pid" in told, told
        return Slot(listen, told["pid"], self.folder)

    def await_line(self, fits: Callable[[dict], bool]) -> dict:
        """The next thing the nursery says that fits; what it says of ended agents is remembered."""
        while True:
            while b"\n" not in self.told:
                piece = self.socket.recv(65536)
                assert piece, "the nursery has ended"
                self.told += piece
            line, _, self.told = self.told.partition(b"\n")
            said = json.loads(line)
            if "ended" in said:
                self.ended.add(said["ended"])
            if fits(said):
                return said

    def await_end(self, pid: int) -> None:
        if pid not in self.ended:
            self.await_line(lambda line: line.get("ended") == pid)


@contextlib.contextmanager
def nursery_process(interpreter: str, *words: str) -> Iterator[Nursery]:
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    lifeline, held = os.pipe()
    folder = tempfile.mkdtemp(prefix="ok", dir="/tmp")
    command = [interpreter, "-I", "-S", "-X", "utf8", str(PROGRAM), "--nursery", str(theirs.fileno()),
               "--lifeline", str(lifeline), *words]  # fmt: skip
    process = subprocess.Popen(command, pass_fds=[theirs.fileno(), lifeline], env={"PATH": os.environ["PATH"]})
    theirs.close()
    os.close(lifeline)
    nursery = Nursery(process, ours, held, folder)
    try:
        nursery.await_line(lambda line: "ready" in line)
        yield nursery
    finally:
        ours.close()
        with contextlib.suppress(OSError):
            os.close(held)
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=PYTHONS)
def interpreter(request: pytest.FixtureRequest) -> str:
    """A Python that slots run on, one after the other."""
    return python_of(request.param)


@pytest.fixture(scope="session")
def nursery(interpreter: str) -> Iterator[Nursery]:
    with nursery_process(interpreter) as made:
        yield made


class Slots:
    """Makes slots of a nursery, and sees to it that nothing of them remains."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._made: list[Slot] = []

    def __call__(self, *, private_tmp: bool = True, cgroup: str = "") -> Slot:
        slot = self._nursery.slot(private_tmp=private_tmp, cgroup=cgroup)
        self._made.append(slot)
        return slot

    def close(self) -> None:
        for slot in self._made:
            with contextlib.suppress(OSError, ConnectionError):
                slot.shut_down()
        for slot in self._made:
            self._nursery.await_end(slot.pid)
            assert not alive(slot.worker_pid)


@pytest.fixture(autouse=True)
def _closed_connections() -> Iterator[None]:
    yield
    while Connection.opened:
        Connection.opened.pop().socket.close()


@pytest.fixture
def slots(nursery: Nursery) -> Iterator[Slots]:
    made = Slots(nursery)
    yield made
    made.close()


@pytest.fixture
def code(tmp_path: Path) -> Callable[[str], str]:
    """Writes a function's module `app` (or another) and returns its folder."""

    def write(source: str, name: str = "app") -> str:
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
        return str(folder)

    return write


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(true: Callable[[], bool]) -> None:
    """Polls until it is."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A folder whose path leaves room for a socket's name."""
    folder = tempfile.mkdtemp(prefix="ok", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
