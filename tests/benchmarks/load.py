"""A closed-loop HTTP load: so many clients, each asking again as soon as it is answered.

In a process of its own, on uvloop, with requests that are bytes already: what is measured is the other side. The same
generator asks Okiba and what Okiba is compared with.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What came of a run; times in ms."""

    requests: int
    errors: int
    seconds: float
    p50: float
    p95: float
    p99: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.errors) / self.seconds


class _Client(asyncio.Protocol):
    """Sends a request, reads an answer with Content-Length, and again until the time is over."""

    def __init__(self, requests: Sequence[bytes], until: float, taken: list[float], done: asyncio.Future[int]) -> None:
        self._requests, self._next = requests, 0
        self._until, self._taken, self._done = until, taken, done
        self._buffer, self._total, self._errors = b"", -1, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        now = time.perf_counter()
        if now >= self._until:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(self._errors)
            return
        self._asked = now
        self._transport.write(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        if self._total < 0:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            at = buffer.lower().find(b"content-length:", 0, end)
            self._total = end + 4 + (int(buffer[at + 15 : buffer.find(b"\r\n", at)]) if at >= 0 else 0)
        if len(buffer) < self._total:
            return
        self._taken.append(time.perf_counter() - self._asked)
        if buffer[9:10] != b"2":
            self._errors += 1
        self._buffer, self._total = b"", -1
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError(f"the server hung up: {exc}"))


async def _run(address: tuple[str, int], requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    loop, taken = asyncio.get_running_loop(), []
    start = time.perf_counter()
    ends = []
    for number in range(clients):
        done: asyncio.Future[int] = loop.create_future()
        own = list(requests[number::clients]) or list(requests)
        await loop.create_connection(lambda own=own, done=done: _Client(own, start + seconds, taken, done), *address)
        ends.append(done)
    errors = sum(await asyncio.gather(*ends))
    elapsed = time.perf_counter() - start
    return Load(len(taken), errors, elapsed, *(quantile(taken, q) * 1000 for q in (0.5, 0.95, 0.99)))


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile by nearest rank; not a number for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def _child(pipe, address, requests, clients, seconds) -> None:
    import uvloop

    try:
        pipe.send(uvloop.run(_run(address, requests, clients, seconds)))
    except BaseException as error:
        pipe.send(error)


def closed_loop(address: str, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Runs the load from a fresh process against `host:port`."""
    host, _, port = address.rpartition(":")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, (host, int(port)), list(requests), clients, seconds))
    process.start()
    theirs.close()
    try:
        result = ours.recv()
    finally:
        process.join(timeout=10)
    if isinstance(result, BaseException):
        raise result
    return result


def post(path: str, body: bytes, headers: dict[str, str] | None = None, host: str = "127.0.0.1") -> bytes:
    """A POST request as bytes."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
