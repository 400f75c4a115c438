"""A process's link to Redis, whatever stands behind its URL, and the scripts that run there.

While Redis is away calls fail at once with StoreUnavailable and the link tries to come back by itself; to a new primary
too, where Sentinels or a cluster have made one. A call that failed may still have been carried out: whoever writes must
be able to write it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any, Final, Protocol

from okiba.adapters.redis_address import Address, Kind, Place
from okiba.adapters.redis_cluster import ClusterLink
from okiba.adapters.redis_connection import Argument, RedisRefused
from okiba.adapters.redis_sentinel import Sentinels
from okiba.adapters.redis_server import ServerLink
from okiba.core.errors import StoreUnavailable

_SCRIPTS: Final = Path(__file__).parent / "scripts"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script as Redis is told of it."""

    source: str
    digest: str

    @classmethod
    def read(cls, path: Path) -> Script:
        """The script in a file."""
        source = path.read_text()
        return cls(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


class Servers(Protocol):
    """One server, or all of a cluster."""

    @property
    def healthy(self) -> bool:
        """All of them are reachable as far as is known."""
        ...

    async def open(self) -> None:
        """Returns once they have answered, or raises StoreUnavailable."""
        ...

    def call(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """The reply to a command."""
        ...

    async def wait(self, command: tuple[Argument, ...], timeout_ms: int) -> Any:
        """The reply to a command that blocks."""
        ...

    async def close(self) -> None:
        """Ends all connections."""
        ...


class RedisLink:
    """Made by `open`, ended by `close`."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._scripts = {path.stem: Script.read(path) for path in _SCRIPTS.glob("*.lua")}

    @classmethod
    async def open(cls, url: str, timeout_ms: int = 2000) -> RedisLink:
        """A link that has answered once.

        Args:
            url: As `okiba.adapters.redis_address` has them.
            timeout_ms: How long any command may take.

        Raises:
            StoreUnavailable: Nobody answers there now.
            InvalidParameter: The URL is none.
        """
        servers = _servers(Place.parsed(url), timeout_ms)
        try:
            await servers.open()
        except TimeoutError:
            await servers.close()
            raise StoreUnavailable("Redis is not reachable: not all of its servers answer") from None
        except BaseException:
            await servers.close()
            raise
        return cls(servers)

    @property
    def healthy(self) -> bool:
        """Redis is reachable as far as is known."""
        return self._servers.healthy

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """The reply to a command; to be awaited. Strings come as bytes.

        Raises:
            RedisRefused: Redis answered with an error; a StoreUnavailable.
            StoreUnavailable: Redis is away, or silent.
        """
        return self._servers.call(command)

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """What scripts/NAME.lua returns; loaded on its first use, and again after Redis has forgotten it.

        Args:
            keys: What the script names its keys by; all have one hash tag.
        """
        script = self._scripts[name]
        try:
            return await self.call("EVALSHA", script.digest, len(keys), *keys, *args)
        except RedisRefused as error:
            if error.refusal != "NOSCRIPT":
                raise
        return await self.call("EVAL", script.source, len(keys), *keys, *args)

    async def wait(self, *command: Argument, timeout_ms: int) -> Any:
        """The reply to a command that blocks, on a connection of its own.

        Args:
            timeout_ms: How long the command itself may block; the link allows its usual time on top.
        """
        return await self._servers.wait(command, timeout_ms)

    async def close(self) -> None:
        """Ends all connections; calls fail from now on."""
        await self._servers.close()


def _servers(place: Place, timeout_ms: int) -> Servers:
    if place.kind is Kind.CLUSTER:
        return ClusterLink(place, timeout_ms)
    if place.kind is Kind.SENTINEL:
        return ServerLink(Sentinels(place).primary, timeout_ms, primary_only=True, replicas=place.replicas)

    async def find() -> Address:
        return place.addresses[0]

    return ServerLink(find, timeout_ms, replicas=place.replicas)
