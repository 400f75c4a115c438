"""Three gateway processes, a controller and its local fleet, and what tests need to see of who owns what."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.installation import GatewayProcess, Installation, eventually, installation

NOTED = """
import os, time
def note(*words):
    with open({path!r}, "a") as file:
        file.write(" ".join(str(word) for word in words) + "\\n")
def handler(event, context):
    key = event.get("key", "-")
    note("begin", key, time.monotonic())
    time.sleep(event.get("seconds", 0))
    note("end", key, time.monotonic())
    return {{"key": key}}
"""
"""Writes down when each call begins and ends; one machine has one monotonic clock."""


@dataclass
class Site:
    """An installation with several gateways, and a folder where handlers note what they do."""

    okiba: Installation
    notes: Path

    def deploy(self, name: str, **settings: object) -> Path:
        """A function that notes its calls; the file with the notes."""
        path = self.notes / name
        path.touch()
        path.chmod(0o666)
        settings = {"Timeout": 60, **settings}
        self.okiba.deploy_inline(name, NOTED.format(path=str(path)), **settings)
        eventually(lambda: self.owner(name), 10)
        return path

    def owner(self, name: str) -> str:
        """The gateway that owns the function, by what is on record; empty while nobody does."""
        gateway, until = self.record(name, "gateway", "until")
        return gateway if until == "0" else ""

    def epoch(self, name: str) -> int:
        """In which epoch."""
        return int(self.record(name, "epoch")[0] or 0)

    def record(self, name: str, *fields: str) -> list[str]:
        with redis.Redis(unix_socket_path=f"{self.okiba.document['sockets']}/valkey") as store:
            return [value.decode() if value else "" for value in store.hmget(f"okiba:{{default/{name}}}:owner", fields)]

    def ledger(self, name: str, request_id: str) -> str:
        """How an asynchronous call ended, or `open`."""
        with redis.Redis(unix_socket_path=f"{self.okiba.document['sockets']}/valkey") as store:
            return (store.get(f"okiba:{{default/{name}}}:seen:{request_id}") or b"").decode()

    def gateway(self, name: str) -> GatewayProcess:
        """One of those that a test may do anything to."""
        return next(gateway for gateway in self.okiba.gateways if gateway.name == name)

    def function_of(self, name: str, **settings: object) -> tuple[str, Path]:
        """A new function that this gateway owns."""
        for number in range(50):
            function = f"{name}-{time.monotonic_ns() % 10**9}-{number}"
            notes = self.deploy(function, **settings)
            if self.owner(function) == name:
                return function, notes
        raise AssertionError(f"{name} gets no function")


def calls(notes: Path) -> list[tuple[str, float, float]]:
    """Calls as their handlers noted them: key, begin, end (infinite while it runs)."""
    begun: list[tuple[str, float, float]] = []
    for line in notes.read_text().splitlines():
        what, key, at = line.split()
        if what == "begin":
            begun.append((key, float(at), float("inf")))
        else:
            index = next(i for i, (other, _, end) in enumerate(begun) if other == key and end == float("inf"))
            begun[index] = (key, begun[index][1], float(at))
    return begun


def most_at_once(notes: Path) -> int:
    """The most calls that ran at one moment."""
    moments = sorted([(begin, 1) for _, begin, _ in calls(notes)] + [(end, -1) for _, _, end in calls(notes)])
    running = most = 0
    for _, step in moments:
        running += step
        most = max(most, running)
    return most


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ok", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    notes = Path(tempfile.mkdtemp(prefix="okiba-notes-", dir="/var/tmp"))
    notes.chmod(0o777)
    settings = {"OKIBA_RETRY_DELAYS_MS": "200,400", "OKIBA_SLOT_WAIT_MS": "10000"}
    try:
        with installation("--idle-seconds", "60", settings=settings, gateways=3) as okiba:
            yield Site(okiba, notes)
    finally:
        shutil.rmtree(notes, ignore_errors=True)


def invoke(client: object, function: str, **event: object) -> object:
    """The result of a synchronous call."""
    answer = client.invoke(FunctionName=function, Payload=json.dumps(event))  # type: ignore[attr-defined]
    body = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, body
    return body
