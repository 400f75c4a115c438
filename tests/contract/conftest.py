"""The same suite on three kinds of store: in memory, on a Valkey, and on a cluster of three."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from okiba.adapters.redis_link import RedisLink
from tests.redis_sets import ValkeyCluster
from tests.redis_sets import cluster as start_cluster

STORES = ("in memory", "on a single Valkey", "on a cluster of three masters")


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with start_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(params=STORES)
async def link(request: pytest.FixtureRequest) -> AsyncIterator[RedisLink | None]:
    """A link to an empty store; None stands for the twin in memory."""
    if request.param == STORES[0]:
        yield None
        return
    opened = await RedisLink.open(_emptied(request))
    yield opened
    await opened.close()


def _emptied(request: pytest.FixtureRequest) -> str:
    """The URL of the store, with nothing in it."""
    if request.param == STORES[2]:
        cluster: ValkeyCluster = request.getfixturevalue("session_cluster")
        cluster.flush()
        return f"{cluster.url}?replicas=0"
    server = request.getfixturevalue("session_valkey")
    with redis.Redis(unix_socket_path=server.socket) as client:
        client.flushall()
    return str(server.url)
