"""Where Redis is, as a URL says it: one server, a set watched by Sentinels, or a cluster; with or without TLS:

Forms:
    unix:///path[?database=1]
    redis://[[user]:password@]host[:port][/database]
    redis+sentinel://[[user]:password@]host[:port][,host…]/primary[/database]    the hosts are Sentinels
    redis+cluster://[[user]:password@]host[:port][,host…]                       some of the cluster's nodes
    rediss…                     the same over TLS, for every connection; SSL_CERT_FILE names a private authority
    ?replicas=1                 a change counts as made once so many replicas have it; by default 1 where another server
                                may take over (Sentinels, a cluster), which forgets what it was not told in time
    ?sentinel_user=…&sentinel_password=…      where Sentinels want a login of their own
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from okiba.core.errors import InvalidParameter

PORT: Final = 6379
SENTINEL_PORT: Final = 26379

_OPTIONS: Final = ("replicas", "sentinel_user", "sentinel_password")
_UNIX_OPTIONS: Final = ("replicas", "database")


class Kind(StrEnum):
    """What answers at the addresses."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES: Final = {
    "redis": (Kind.SERVER, PORT),
    "redis+sentinel": (Kind.SENTINEL, SENTINEL_PORT),
    "redis+cluster": (Kind.CLUSTER, PORT),
}


@dataclass(frozen=True, slots=True)
class Address:
    """One server, and how to be let in.

    Args:
        path: A Unix socket, or empty for TCP.
        login: Arguments of AUTH, empty without a password.
        tls: Its certificate must be of a known authority and of this host's name.
    """

    path: str = ""
    host: str = "127.0.0.1"
    port: int = PORT
    database: int = 0
    login: tuple[str, ...] = ()
    tls: bool = False

    def tls_context(self) -> ssl.SSLContext | None:
        """What checks the server's certificate; None without TLS."""
        return ssl.create_default_context() if self.tls else None


@dataclass(frozen=True, slots=True)
class Place:
    """All that a URL says.

    Args:
        addresses: The one server, the Sentinels, or some nodes of the cluster; the login is each one's own.
        primary: The name by which Sentinels know the primary.
        login: Of the servers that hold data.
        database: Of the servers that hold data; a cluster has but one.
        replicas: So many must have a change before it counts as made.
    """

    kind: Kind
    addresses: tuple[Address, ...]
    primary: str = ""
    login: tuple[str, ...] = ()
    database: int = 0
    replicas: int = 0

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.addresses[0].tls

    def server(self, host: str, port: int) -> Address:
        """One of the servers that hold data."""
        return Address("", host, port, self.database, self.login, self.tls)

    @classmethod
    def parsed(cls, url: str) -> Place:
        """What the URL says.

        Raises:
            InvalidParameter: It is none of the forms above.
        """
        try:
            return _parsed(url)
        except ValueError as error:
            scheme = url.partition(":")[0][:20]  # no more of it: the rest may hold a password
            raise InvalidParameter(
                "a Redis URL is unix:///path, redis://host:port/0, redis+sentinel://host,host/primary or "
                f"redis+cluster://host,host (with TLS: rediss…), got {scheme}://…: {error}"
            ) from None


def _parsed(url: str) -> Place:
    parts = urlsplit(url)
    options = _options(parts.query, _UNIX_OPTIONS if parts.scheme == "unix" else _OPTIONS)
    if parts.scheme == "unix":
        _require(parts.path, "a path is missing")
        address = Address(path=unquote(parts.path), database=_number(options.get("database", "0")))
        return Place(Kind.SERVER, (address,), database=address.database, replicas=_number(options.get("replicas", "0")))
    tls = parts.scheme.startswith("rediss")
    scheme = parts.scheme.replace("rediss", "redis", 1)
    _require(scheme in _SCHEMES, "the scheme is unknown")
    kind, usual_port = _SCHEMES[scheme]
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    login = tuple(unquote(part) for part in (user, password) if part)
    path = [unquote(part) for part in parts.path.split("/") if part]
    primary = path.pop(0) if kind is Kind.SENTINEL and path else ""
    database = _number(path.pop(0)) if path else 0
    _require(not path, "the path is too long")
    _require(primary or kind is not Kind.SENTINEL, "the primary's name is missing")
    _require(not (database and kind is Kind.CLUSTER), "a cluster has no other database than 0")
    names = [_host(text, usual_port) for text in hosts.split(",")]
    _require(len(names) == 1 or kind is not Kind.SERVER, "several hosts need redis+sentinel:// or redis+cluster://")
    sentinel = (options.get("sentinel_user", ""), options.get("sentinel_password", ""))
    own = tuple(part for part in sentinel if part) if kind is Kind.SENTINEL else login
    addresses = tuple(Address("", host, port, database * (kind is Kind.SERVER), own, tls) for host, port in names)
    replicas = _number(options.get("replicas", "0" if kind is Kind.SERVER else "1"))
    return Place(kind, addresses, primary, login, database, replicas)


def _options(query: str, known: tuple[str, ...]) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    _require(options.keys() <= set(known), f"after ? may stand {', '.join(known)}")
    return options


def _host(text: str, usual_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(usual_port)
    _require(host.strip("[]"), "a host is missing")
    return host.strip("[]"), _number(port)


def _number(text: str) -> int:
    # Not told what it was: with a slash in a password that is not escaped, it is a part of it.
    _require(text.isascii() and text.isdigit(), "a port, a database or replicas must be a number")
    return int(text)


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
