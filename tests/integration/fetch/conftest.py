"""Slots that share no folder with anybody: agents on TCP, and a real MinIO that they fetch from."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from tests import servers
from tests.integration.runtime.conftest import PROGRAM, python_of
from tests.integration.runtime.gateway import DEADLINE_S, Connection, Slot

BUCKET = "okiba"


def packed(files: Mapping[str, str | bytes]) -> bytes:
    """A zip archive of these files."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return body.getvalue()


@dataclass(frozen=True)
class Store:
    """The platform's bucket in a MinIO."""

    server: servers.MinioServer
    client: Minio

    def part(self, archive: bytes, **changes: Any) -> dict[str, Any]:
        """What an order says of an archive, which is in the store when this returns."""
        sha256 = hashlib.sha256(archive).hexdigest()
        key = f"code/{sha256}.zip"
        self.client.put_object(BUCKET, key, io.BytesIO(archive), len(archive))
        url = self.client.presigned_get_object(BUCKET, key, expires=timedelta(minutes=5))
        return {"url": url, "sha256": sha256, "size": len(archive), **changes}


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory) -> Iterator[servers.MinioServer]:
    with servers.minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="session")
def store(minio_server) -> Store:
    address = minio_server.endpoint.removeprefix("http://")
    keys = (minio_server.access_key, minio_server.secret_key)
    client = Minio(address, *keys, secure=False, region="us-east-1")
    client.make_bucket(BUCKET)
    return Store(minio_server, client)


@dataclass
class Agents:
    """Makes slots as containers have them, and ends what is left of them."""

    folder: str
    interpreter: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __call__(self, *words: str, environment: Mapping[str, str] | None = None) -> Slot:
        port = servers.free_port()
        runtime_dir = f"{self.folder}/{port}"
        python = [self.interpreter, "-I", "-S", "-X", "utf8", str(PROGRAM)]
        surroundings = {"PATH": os.environ["PATH"], "OKIBA_RUNTIME_DIR": runtime_dir, **(environment or {})}
        process = subprocess.Popen(
            [*python, "--listen", f"tcp:127.0.0.1:{port}", *words], stdout=subprocess.PIPE, env=surroundings
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return Slot(f"tcp:127.0.0.1:{port}", process.pid, runtime_dir)

    def process(self, slot: Slot) -> subprocess.Popen[bytes]:
        return next(process for process in self.processes if process.pid == slot.pid)

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate(timeout=DEADLINE_S)


@pytest.fixture(scope="session", params=["current", "oldest"])
def interpreter(request: pytest.FixtureRequest) -> str:
    """A Python that slots run on, one after the other."""
    return python_of(request.param)


@pytest.fixture
def agents(interpreter: str) -> Iterator[Agents]:
    folder = tempfile.mkdtemp(prefix="ok", dir="/tmp")
    made = Agents(folder, interpreter)
    yield made
    while Connection.opened:
        Connection.opened.pop().socket.close()
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def serving(agents: Agents, store: Store) -> Callable[[bytes], Slot]:
    """Makes a slot that has been given a package and connected to."""

    def make(package: bytes) -> Slot:
        slot = agents()
        assert slot.specialize("", code=store.part(package)).status == 200
        slot.greet()
        return slot

    return make


class StrangeStore:
    """A store that answers as it is told, request after request; the last answer is repeated."""

    scheme = "http"

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.heads: list[bytes] = []
        self._listener = self.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._listener.getsockname()[1]}/okiba/code/x.zip?X-Amz-Signature=secret"

    def listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except ssl.SSLError:  # whoever came does not trust this store
                continue
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                self.heads.append(connection.recv(65536))
                if self.heads[-1]:
                    connection.sendall(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])

    def __enter__(self) -> StrangeStore:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE_S)


class TlsStore(StrangeStore):
    """The same behind TLS, with a certificate of a private authority.

    Args:
        folder: Where the certificate is put.
    """

    scheme = "https"

    def __init__(self, folder: Path, archive: bytes) -> None:
        self.archive = archive
        self.authority, self._key = str(folder / "authority.pem"), str(folder / "key.pem")
        subject = ["-subj", "/CN=store", "-addext", "subjectAltName=IP:127.0.0.1"]
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", self._key, "-out", self.authority]
        subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_S)
        super().__init__(answer(archive))

    def listen(self) -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.authority, self._key)
        return context.wrap_socket(super().listen(), server_side=True)


@pytest.fixture
def tls_store(tmp_path: Path) -> Iterator[TlsStore]:
    source = "import os\ndef handler(*_): return [os.environ[name] for name in ('SSL_CERT_FILE', 'AWS_CA_BUNDLE')]"
    with TlsStore(tmp_path, packed({"app.py": source})) as store:
        yield store


def answer(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    """A store's answer, saying that its body has `length` bytes."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body
