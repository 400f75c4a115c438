"""A control plane on real parts: Valkey, MinIO, and uvicorn in a thread, asked by boto3."""

from __future__ import annotations

import asyncio
import json
import platform
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
import uvicorn
from botocore import UNSIGNED
from botocore.config import Config

from okiba.adapters.redis_inbox import RedisInbox
from okiba.adapters.redis_layers import RedisLayers
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_logs import RedisLogs
from okiba.adapters.redis_queue import RedisQueue
from okiba.adapters.redis_registry import RedisKeys, RedisRegistry
from okiba.adapters.redis_sweeps import RedisSweeps
from okiba.adapters.s3_store import S3Store
from okiba.adapters.vault import Vault
from okiba.apps.gateway.control import ControlServices, control_app
from okiba.core.function import Function, State, UpdateStatus
from okiba.ports import Principal
from okiba.settings import Settings
from tests import servers
from tests.integration.control.lambda_calls import create

MACHINE = "arm64" if platform.machine() == "aarch64" else "x86_64"


@dataclass(frozen=True)
class Parts:
    """What a test may look into beside the API."""

    link: RedisLink
    registry: RedisRegistry
    keys: RedisKeys
    queue: RedisQueue
    logs: RedisLogs
    inbox: RedisInbox
    store: S3Store


async def parts_of(settings: Settings) -> Parts:
    link = await RedisLink.open(settings.redis_url)
    vault = Vault(settings.platform_key)
    return Parts(
        link,
        RedisRegistry(link, vault, settings.tenant),
        RedisKeys(link, vault),
        RedisQueue(link, settings.tenant, "gateway", settings.dedupe_ms),
        RedisLogs(link, settings.tenant, settings.log_bytes),
        RedisInbox(link),
        S3Store.of(settings),
    )


@dataclass(frozen=True)
class ControlPlane:
    """A running one.

    Args:
        spool: Where it keeps requests' bodies.
        told: Names of functions that it said were written, in that order.
        clients: Closes every client in the end.
    """

    settings: Settings
    url: str
    spool: Path
    told: list[str]
    clients: ExitStack

    def client(self, principal: str = "admin") -> Any:
        """A boto3 client; the caller's name travels as a header, which the test's shim believes."""
        config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}, read_timeout=60)
        client = boto3.client("lambda", "us-east-1", endpoint_url=self.url, config=config)
        self.clients.callback(client.close)

        def named(request: Any, **_: Any) -> None:
            request.headers["x-test-principal"] = principal

        client.meta.events.register("before-send.lambda.*", named)
        return client

    def ask(
        self, method: str, path: str, body: Any = None, principal: str = "admin", **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of a bare request."""
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        answer = urllib3.request(
            method,
            self.url + path,
            body=sent,
            headers={"x-test-principal": principal, **headers},
            timeout=60,
            retries=False,
        )
        return answer.status, dict(answer.headers), json.loads(answer.data) if answer.data else None

    def run(self, act: Callable[[Parts], Coroutine[Any, Any, Any]]) -> Any:
        """What `act` returns, given the parts, in a loop of its own."""

        async def acted() -> Any:
            parts = await parts_of(self.settings)
            try:
                return await act(parts)
            finally:
                await parts.link.close()

        return asyncio.run(acted())

    def function(self, name: str) -> Function:
        return self.run(lambda parts: parts.registry.get(name))

    def prepare(self, name: str, **changes: Any) -> Function:
        """What the controller does once all is ready."""

        async def prepared(parts: Parts) -> Function:
            function = await parts.registry.get(name)
            wanted = {"state": State.ACTIVE, "state_reason": "", "state_reason_code": "", **changes}
            done = replace(function, last_update=UpdateStatus.SUCCESSFUL, last_update_reason="", **wanted)
            await parts.registry.put(done, replaces=function.revision)
            return done

        return self.run(prepared)

    def refuse(self, name: str, **verdict: Any) -> Function:
        """What the controller does when waiting will not help."""

        async def refused(parts: Parts) -> Function:
            function = await parts.registry.get(name)
            done = replace(function, **verdict)
            await parts.registry.put(done, replaces=function.revision)
            return done

        return self.run(refused)


class Shim:
    """Stands where the data path verifies signatures: believes a header."""

    def __init__(self, app: Any, keys: RedisKeys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            name = dict(scope["headers"]).get(b"x-test-principal", b"").decode()
            if name == "admin":
                scope["okiba.principal"] = Principal("OKIAADMIN", "s", "admin")
            else:
                owned = [principal for principal in await self._keys.all() if principal.name == name]
                if owned:
                    scope["okiba.principal"] = owned[0]
        await self._app(scope, receive, send)


@contextmanager
def running(settings: Settings, spool: Path) -> Iterator[ControlPlane]:
    """A control plane, served until the block ends."""
    port = servers.free_port()
    started: list[uvicorn.Server] = []
    told: list[str] = []

    async def tell(name: str) -> None:
        told.append(name)

    async def serve() -> None:
        parts = await parts_of(settings)
        services = ControlServices(
            settings=settings,
            registry=parts.registry,
            keys=parts.keys,
            queue=parts.queue,
            logs=parts.logs,
            inbox=parts.inbox,
            store=parts.store,
            sweeps=RedisSweeps(parts.link),
            spool=spool,
            runtimes=lambda: ["python3.11"],
            machine=MACHINE,
            platform=sysconfig.get_platform(),
            layer=RedisLayers(parts.link).read,
            status=_status,
            recent=lambda _name: [],
            now_ms=lambda: time.time_ns() // 1_000_000,
            wake=lambda _name: None,
            changed=tell,
        )
        app = Shim(control_app(services), parts.keys)
        config = uvicorn.Config(app, port=port, log_level="error", lifespan="off", loop="asyncio")
        server = uvicorn.Server(config)
        started.append(server)
        await server.serve()
        await parts.link.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not (started and started[0].started):
            assert thread.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        with ExitStack() as clients:
            yield ControlPlane(settings, f"http://127.0.0.1:{port}", spool, told, clients)
    finally:
        if started:
            started[0].should_exit = True
        thread.join(20)


async def _status() -> dict[str, Any]:
    return {"components": []}


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory):
    with servers.valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory):
    with servers.minio(tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(scope="session")
def control_settings(valkey_server, minio_server):
    return Settings(
        redis_url=valkey_server.url,
        s3_endpoint=minio_server.endpoint,
        s3_access_key=minio_server.access_key,
        s3_secret_key=minio_server.secret_key,
        platform_key="ab" * 32,
    )


@pytest.fixture(scope="session")
def control(control_settings, tmp_path_factory):
    with running(control_settings, tmp_path_factory.mktemp("control") / "spool") as plane:
        yield plane


@pytest.fixture
def name():
    return f"f-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def client(control):
    return control.client()


@pytest.fixture(scope="session")
def standing(control):
    """A function for tests that are refused, and so leave it as it is."""
    name = f"standing-{uuid.uuid4().hex[:8]}"
    create(control.client(), name)
    return name
