"""The same suite on three kinds of store: in memory, on a Valkey, and on one that checks slots as a cluster does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from okiba.adapters.redis_link import RedisLink
from tests.servers import ValkeyServer, await_true
from tests.servers import valkey as start_valkey

STORES = ("in memory", "on a single Valkey", "on a Valkey in cluster mode")


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One master with all the slots: a script that touches keys of two slots is refused there."""
    folder = tmp_path_factory.mktemp("cluster")
    with start_valkey(folder, "--cluster-enabled", "yes") as server:
        with redis.Redis(unix_socket_path=server.socket) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await_true(
                lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"),
                server.process,
                "Valkey in cluster mode",
                folder / "valkey.log",
            )
        yield server


@pytest.fixture(params=STORES)
async def link(request: pytest.FixtureRequest) -> AsyncIterator[RedisLink | None]:
    """A link to an empty store; None stands for the twin in memory."""
    if request.param == STORES[0]:
        yield None
        return
    clustered = request.param == STORES[2]
    server: ValkeyServer = request.getfixturevalue("session_cluster" if clustered else "session_valkey")
    with redis.Redis(unix_socket_path=server.socket) as client:
        client.flushall()
    opened = await RedisLink.open(server.url)
    yield opened
    await opened.close()
