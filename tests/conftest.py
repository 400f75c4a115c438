"""Real servers as fixtures. A session's Valkey is shared and emptied for each test that asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import redis

from okiba.adapters.redis_link import RedisLink
from tests.servers import ValkeyServer
from tests.servers import valkey as start_valkey

# A busy machine makes an example slow, not wrong.
hypothesis.settings.register_profile("okiba", deadline=None)
# `make check` asks for this one; `make test` takes the whole hundred examples.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)
hypothesis.settings.load_profile("okiba")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a cluster, its programs, or images, is marked: `make test-cluster` runs it, `make test` the rest."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        fixtures = getattr(item, "fixturenames", ())
        place = {"chart", "cluster", "compose"} & set(item.path.parts)
        if place or "cluster" in fixtures or parameters.get("okiba") == "cluster":
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def session_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with start_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey(session_valkey: ValkeyServer) -> ValkeyServer:
    """An empty Valkey, AOF on."""
    with redis.Redis(unix_socket_path=session_valkey.socket) as client:
        client.flushall()
    return session_valkey


@pytest.fixture
async def redis_link(valkey: ValkeyServer) -> AsyncIterator[RedisLink]:
    """A link to an empty Valkey."""
    link = await RedisLink.open(valkey.url)
    yield link
    await link.close()
