"""redis-py's own clients for what is not on the path of a call: jobs, in threads. One for each kind of place.

They follow a primary or a cluster by themselves, over TLS too, and their cost (160 µs a call, measured in asyncio's
flavour) is nothing beside what a job does.
"""

from __future__ import annotations

from typing import Any, cast

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

from okiba.adapters.redis_address import Address, Kind, Place


def client_of(url: str, timeout_s: float) -> redis.Redis:
    """A client of the Redis at a URL as `redis_address` has them; it connects when it is first used.

    Args:
        timeout_s: How long a command may take.

    Raises:
        InvalidParameter: The URL is none.
        redis.RedisError: A cluster does not answer; its client asks at once.
    """
    place = Place.parsed(url)
    limits: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": min(timeout_s, 2.0)}
    if place.kind is Kind.CLUSTER:
        nodes = [ClusterNode(address.host, address.port) for address in place.addresses]  # type: ignore[no-untyped-call]
        # It has the same commands, and shares no base class.
        return cast("redis.Redis", RedisCluster(startup_nodes=nodes, **limits, **way_in(place.addresses[0])))
    if place.kind is Kind.SENTINEL:
        hosts = [(address.host, address.port) for address in place.addresses]
        sentinels = Sentinel(hosts, sentinel_kwargs={**limits, **way_in(place.addresses[0])})  # type: ignore[no-untyped-call]
        data = way_in(place.server("", 0))
        found: redis.Redis = sentinels.master_for(place.primary, db=place.database, **limits, **data)  # type: ignore[no-untyped-call]
        return found
    address = place.addresses[0]
    if address.path:
        return redis.Redis(unix_socket_path=address.path, db=address.database, **limits)
    return redis.Redis(address.host, address.port, db=address.database, **limits, **way_in(address))


def way_in(address: Address) -> dict[str, Any]:
    """What redis-py calls the login and TLS."""
    way: dict[str, Any] = {"ssl": True} if address.tls else {}
    if address.login:
        way["password"] = address.login[-1]
    if len(address.login) > 1:
        way["username"] = address.login[0]
    return way
