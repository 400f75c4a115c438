"""A real MinIO with both lanes pointing at a receiver that writes down what it gets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from minio import Minio

from okiba.adapters.s3_admin import S3Admin
from okiba.core.notification import minio_notify_environment
from tests.servers import MinioServer, minio

TOKEN = "a-webhook-token"


@dataclass(frozen=True)
class Heard:
    lane: str
    authorization: str
    key: str


class Receiver(ThreadingHTTPServer):
    """Answers every webhook with 200."""

    daemon_threads = True

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        lane = self.path.removeprefix("/webhooks/s3/")
        self.server.heard.append(Heard(lane, self.headers["Authorization"], body["Records"][0]["s3"]["object"]["key"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def store(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    folder: Path = tmp_path_factory.mktemp("minio")
    url = f"http://127.0.0.1:{receiver.server_port}"
    with minio(folder, minio_notify_environment(url, TOKEN, folder / "queue")) as server:
        yield server


@pytest.fixture(scope="session")
def admin(store: MinioServer) -> S3Admin:
    return S3Admin(store.endpoint, store.access_key, store.secret_key)


@pytest.fixture(scope="session")
def root(store: MinioServer) -> Minio:
    """The store as its owner uses it, past Okiba."""
    return client(store, store.access_key, store.secret_key)


def client(store: MinioServer, access_key: str, secret_key: str) -> Minio:
    address = store.endpoint.removeprefix("http://")
    # With its region, since asking for a bucket's takes a right of its own.
    return Minio(address, access_key=access_key, secret_key=secret_key, secure=False, region="us-east-1")
