"""The gateway's side of the slot protocol for tests: raw sockets, one request at a time, everything with a deadline."""

from __future__ import annotations

import json
import socket
import time
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

DEADLINE_S = 20.0
GRANT = "ab" * 32
ARN = "arn:aws:lambda:us-east-1:000000000000:function:probe"


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __getitem__(self, name: str) -> str:
        return self.headers[name.lower()]

    def get(self, name: str) -> str | None:
        return self.headers.get(name.lower())


class Connection:
    """One connection to a slot's agent, or (after `greet`) to its worker; `opened` are those of a test to close."""

    opened: ClassVar[list[Connection]] = []

    def __init__(self, address: str) -> None:
        self.opened.append(self)
        kind, _, rest = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(DEADLINE_S)
            self.socket.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            self.socket = socket.create_connection((host, int(port)), DEADLINE_S)
        self._received = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Response:
        self.send(method, target, headers, body)
        return self.receive()

    def send(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        self.socket.sendall("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)

    def receive(self) -> Response:
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = self._exactly(int(headers["content-length"]))
        return Response(int(first.split(" ")[1]), headers, body)

    def at_end(self) -> bool:
        """Whether the other side has closed; waits for it."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            self._more()
        found, _, self._received = self._received.partition(end)
        return found

    def _exactly(self, count: int) -> bytes:
        pieces = bytearray(self._received[:count])
        self._received = self._received[count:]
        while len(pieces) < count:
            piece = self.socket.recv(count - len(pieces))
            if not piece:
                raise ConnectionError("the connection ended within a body")
            pieces += piece
        return bytes(pieces)

    def _more(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the connection ended")
        self._received += piece


class Slot:
    """A slot as a gateway sees it: control calls, and one data connection."""

    def __init__(self, address: str, pid: int, folder: str) -> None:
        self.address, self.pid, self.folder = address, pid, folder
        self.worker_pid = 0
        self.data: Connection | None = None

    def order(self, folder: str, handler: str = "app.handler", **changes: Any) -> dict[str, Any]:
        function = {
            "name": "probe",
            "version": "$LATEST",
            "arn": ARN,
            "handler": handler,
            "memory_mb": changes.pop("memory_mb", 256),
            "timeout_ms": 3000,
            "log_group": "/aws/lambda/probe",
            "log_stream": "2026/11/22/[$LATEST]0123456789abcdef0123456789abcdef",
        }
        order = {
            "epoch": 7,
            "grant": GRANT,
            "function": function,
            "environment": {"AWS_REGION": "us-east-1"},
            "code": {"path": folder},
            "layers": [],
            "packages": [],
            "init_ms": 10000,
        }
        return {**order, **changes}

    def specialize(self, folder: str, handler: str = "app.handler", **changes: Any) -> Response:
        body = json.dumps(self.order(folder, handler, **changes)).encode()
        response = self.control("POST", "/okiba/v1/specialize", body=body)
        if response.status == 200:
            self.worker_pid = response.json["pid"]
        return response

    def control(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Response:
        with Connection(self.address) as connection:
            return connection.ask(method, target, {"Okiba-Grant": GRANT, **(headers or {})}, body)

    def connect(self, epoch: int = 7) -> Connection:
        connection = Connection(self.address)
        connection.send("POST", "/okiba/v1/connect", {"Okiba-Grant": GRANT, "Okiba-Epoch": str(epoch)})
        return connection

    def greet(self, epoch: int = 7) -> Response:
        self.data = self.connect(epoch)
        return self.data.receive()

    def begin(self, event: Any = None, *, timeout_ms: int = 5000, **headers: str) -> str:
        """Sends an invocation; `receive` on the data connection gets its answer."""
        request_id = str(uuid.uuid4())
        assert self.data is not None
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        fields = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + timeout_ms),
            "Lambda-Runtime-Invoked-Function-Arn": f"{ARN}:$LATEST",
            "Okiba-Timeout-Us": str(timeout_ms * 1000),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        self.data.send("POST", "/2015-03-31/functions/function/invocations", fields, body)
        return request_id

    def invoke(self, event: Any = None, *, timeout_ms: int = 5000, **headers: str) -> Response:
        self.begin(event, timeout_ms=timeout_ms, **headers)
        assert self.data is not None
        return self.data.receive()

    def telemetry(self, offset: int = 0, wait_ms: int = 0, seen: str = "") -> Response:
        target = f"/okiba/v1/telemetry?log={offset}&wait_ms={wait_ms}" + (f"&seen={seen}" if seen else "")
        return self.control("GET", target)

    def log(self) -> str:
        return self.telemetry().body.decode()

    def ending(self) -> dict[str, Any]:
        """Okiba-Exit, waited for."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            response = self.telemetry(wait_ms=1000, seen=self.telemetry()["Okiba-State"])
            if raw := response.get("Okiba-Exit"):
                return dict(json.loads(raw))
        raise TimeoutError("the slot has not ended")

    def shut_down(self) -> None:
        if self.data:
            self.data.socket.close()
        self.control("POST", "/okiba/v1/shutdown")
