"""Celery's broker, from the URLs that Okiba's settings have: as kombu spells it, and as a client that looks into it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import redis

from okiba.adapters.redis_address import Address, Kind, Place
from okiba.adapters.redis_client import client_of, way_in
from okiba.core.errors import InvalidParameter

DATABASE: Final = 1
"""Of the platform's Redis, where no broker is named: its keys are none of ours."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker for Celery.

    Args:
        url: As kombu spells it.
        options: Transport options that belong to it.
        tls: For Celery's `broker_use_ssl`; None without.
        own_url: The same as Okiba spells it.
    """

    url: str
    own_url: str
    options: dict[str, Any] = field(default_factory=dict)
    tls: dict[str, Any] | None = None

    def client(self, timeout_s: float) -> redis.Redis:
        """A client that looks into it."""
        return client_of(self.own_url, timeout_s)


def broker_of(broker_url: str, redis_url: str) -> Broker:
    """The broker that OKIBA_BROKER_URL names; without it, another database of the platform's Redis.

    Raises:
        InvalidParameter: The URL is none, or a cluster's, which Celery cannot use.
    """
    if broker_url:
        own_url = _own(broker_url)
        return _broker(Place.parsed(own_url), own_url)
    place = Place.parsed(redis_url)
    if place.kind is Kind.SERVER and place.addresses[0].path:
        own_url = f"unix://{quote(place.addresses[0].path)}?database={DATABASE}"
        return _broker(Place.parsed(own_url), own_url)
    parts = urlsplit(redis_url)
    path = f"/{place.primary}/{DATABASE}" if place.kind is Kind.SENTINEL else f"/{DATABASE}"
    if place.kind is Kind.CLUSTER:
        path = ""
    own_url = parts._replace(path=path).geturl()
    return _broker(Place.parsed(own_url), own_url)


def _own(broker_url: str) -> str:
    """Okiba's spelling of what may be kombu's."""
    if not broker_url.startswith("redis+socket://"):
        return broker_url
    return broker_url.replace("redis+socket://", "unix://").replace("virtual_host=", "database=")


def _broker(place: Place, own_url: str) -> Broker:
    if place.kind is Kind.CLUSTER:
        raise InvalidParameter(
            "OKIBA_BROKER_URL must name a Redis that is no cluster: Celery, which the jobs run on, cannot use one"
        )
    tls = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True} if place.tls else None
    if place.kind is Kind.SENTINEL:
        database = f"/{place.database}"
        url = ";".join(f"sentinel://{_login(place.login)}{_at(sentinel)}{database}" for sentinel in place.addresses)
        return Broker(url, own_url, {"master_name": place.primary, "sentinel_kwargs": _sentinel_options(place)}, tls)
    address = place.addresses[0]
    if address.path:
        return Broker(f"redis+socket://{address.path}?virtual_host={address.database}", own_url)
    scheme = "rediss" if address.tls else "redis"
    return Broker(f"{scheme}://{_login(address.login)}{_at(address)}/{address.database}", own_url, {}, tls)


def _sentinel_options(place: Place) -> dict[str, Any]:
    return {"socket_timeout": 2, "socket_connect_timeout": 2, **way_in(place.addresses[0])}


def _login(login: tuple[str, ...]) -> str:
    if not login:
        return ""
    user = quote(login[0], safe="") if len(login) > 1 else ""
    return f"{user}:{quote(login[-1], safe='')}@"


def _at(address: Address) -> str:
    return f"{address.host}:{address.port}"
