from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from okiba.adapters.fleet_link import FleetLink
from okiba.adapters.kube_pods import PodChoices
from okiba.apps.kube.fleet import KubeFleet
from okiba.apps.kube.needs import KubeNeeds
from okiba.core.function import Function
from okiba.core.layer import LayerIntent
from okiba.settings import Settings
from tests.fakes.fleet import FakeListener
from tests.fakes.kube import FakeKube
from tests.fakes.preparing import FakeRegistry

KEY = "ab" * 32


class FakeLayers:
    """`RedisLayers`, as far as needs ask it."""

    def __init__(self) -> None:
        self.intents: dict[str, LayerIntent] = {}

    async def read(self, layer_hash: str) -> LayerIntent | None:
        return self.intents.get(layer_hash)


class Site:
    """A cluster, and the controllers and gateways that a test starts on it."""

    def __init__(self, sockets: Path) -> None:
        self.kube = FakeKube()
        self.registry = FakeRegistry()
        self.layers = FakeLayers()
        self.settings = Settings(
            fleet="kubernetes",
            fleet_address=f"unix:{sockets}/fleet",
            platform_key=KEY,
            warm_slots=2,
            warm_slots_cap=4,
            idle_slot_ms=60_000,
        )
        self._life = 0

    @contextlib.asynccontextmanager
    async def controller(self, **settings: object) -> AsyncIterator[KubeFleet]:
        chosen = replace(self.settings, **settings)
        needs = KubeNeeds(chosen, self.registry, self.layers, _parts)
        fleet = KubeFleet(chosen, self.kube, needs, PodChoices(chosen.slot_image))
        async with running(fleet.run()):
            yield fleet

    @contextlib.asynccontextmanager
    async def gateway(self) -> AsyncIterator[tuple[FleetLink, FakeListener]]:
        self._life += 1
        link, listener = FleetLink(self.settings.fleet_address, "g", self._life, KEY), FakeListener()
        async with running(link.run(listener)):
            await becomes_true(lambda: listener.synced, "the gateway is told of all slots")
            yield link, listener

    def sizes(self) -> list[int]:
        return sorted(len(document["spec"]["containers"]) for document in self.kube.documents.values())


async def _parts(function: Function) -> dict[str, object]:
    return {"layers": [{"id": function.layer.hash if function.layer else ""}], "packages": []}


@contextlib.asynccontextmanager
async def running(coroutine) -> AsyncIterator[None]:
    task = asyncio.ensure_future(coroutine)
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def becomes_true(condition, what: str, seconds: float = 10.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.01)


@pytest.fixture
def sockets() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ok", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def site(sockets: Path) -> AsyncIterator[Site]:
    site = Site(sockets)
    yield site
    site.kube.close()
