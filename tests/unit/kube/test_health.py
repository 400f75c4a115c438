from __future__ import annotations

import asyncio
import json

from okiba.apps.kube.health import serve_health
from tests.servers import free_port
from tests.unit.kube.conftest import running


async def asked(port: int, request: bytes) -> tuple[bytes, dict[str, object]]:
    async with asyncio.timeout(10):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return head.split(b"\r\n")[0], json.loads(body)


async def test_a_controller_says_that_it_lives_and_whether_it_leads():
    port = free_port()
    async with running(serve_health(f"127.0.0.1:{port}", lambda: True, lambda: b"")):
        answer = await asked(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer == (b"HTTP/1.1 200 OK", {"ok": True, "leading": True})


async def test_prometheus_is_shown_what_there_is_just_now():
    port, page = free_port(), b"okiba_fleet_pods 3.0\n"
    async with running(serve_health(f"127.0.0.1:{port}", lambda: True, lambda: page)):
        await asked(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert b"text/plain; version=0.0.4" in head
    assert body == page


async def test_nothing_else_is_told():
    port = free_port()
    async with running(serve_health(f"127.0.0.1:{port}", lambda: False, lambda: b"")):
        first, _ = await asked(port, b"GET /secrets HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first == b"HTTP/1.1 404 Not Found"
