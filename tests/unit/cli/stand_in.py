"""A stand-in for a running Okiba: a state folder, and an HTTP server on loopback that gives prepared answers.

It records every request, so that a test can say what the CLI asked for. The gateway's own behaviour is not copied
here; deploying for real is in tests/integration/deploy.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from okiba.apps.local.credentials import ensure_credentials
from okiba.apps.local.state import Installation, write_installation


@dataclass(frozen=True)
class Request:
    """What arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is sent back; a body that is not bytes is sent as JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body or {}).encode()


@dataclass
class StandIn:
    """Answers by method and path; a list of answers is used up one by one, its last one stays."""

    state: Path
    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def asked(self) -> list[str]:
        """Methods and paths, in the order of their arrival."""
        return [f"{request.method} {request.path}" for request in self.requests]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        found = self.answers.get(f"{request.method} {request.path}")
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        missing = {"Type": "User", "message": f"nothing at {request.path}"}
        return found or Answer(missing, 404, {"x-amzn-ErrorType": "ResourceNotFoundException"})


@contextmanager
def stand_in(state: Path) -> Iterator[StandIn]:
    """A stand-in whose state folder is `state`, serving until the block ends."""
    told = StandIn(state)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, url.path, dict(parse_qsl(url.query)), dict(self.headers), body)
            answer = told.answer(request)
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.content)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    state.mkdir(parents=True, exist_ok=True)
    ensure_credentials(state)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    write_installation(state, Installation(server.server_address[1], 1, 1, state))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
