"""A process's link to Redis: one connection for all commands, further ones for those that block.

While Redis is away calls fail at once with StoreUnavailable and the link tries to come back by itself. A call that
failed may still have been carried out: whoever writes must be able to write it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from okiba.adapters.redis_connection import Argument, Connection, RedisRefused
from okiba.core.errors import InvalidParameter, StoreUnavailable

log = logging.getLogger(__name__)

MAX_BACKOFF_S: Final = 1.0
MAX_IDLE: Final = 8
"""Connections kept for commands that block, once nobody blocks on them."""

_SCRIPTS: Final = Path(__file__).parent / "scripts"


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is.

    Args:
        path: A Unix socket, or empty for TCP.
        login: Arguments of AUTH, empty without a password.
    """

    path: str = ""
    host: str = "127.0.0.1"
    port: int = 6379
    database: int = 0
    login: tuple[str, ...] = ()

    @classmethod
    def parsed(cls, url: str) -> Address:
        """Of `unix:///path`, or `redis://[[user]:password@]host[:port][/database]`.

        Raises:
            InvalidParameter: Another scheme, or no number where one must be.
        """
        parts = urlsplit(url)
        try:
            if parts.scheme == "unix" and parts.path:
                return cls(path=unquote(parts.path))
            if parts.scheme == "redis" and parts.hostname:
                login = tuple(unquote(part) for part in (parts.username, parts.password) if part)
                return cls("", parts.hostname, parts.port or 6379, int(parts.path.strip("/") or 0), login)
        except ValueError:
            pass  # the message below is a better one
        raise InvalidParameter(f"a Redis URL is unix:///path or redis://host:port/0, got {parts.scheme}://…")


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


class RedisLink:
    """Made by `open`, ended by `close`."""

    def __init__(self, address: Address, timeout_ms: int) -> None:
        self._address = address
        self._timeout_s = timeout_ms / 1000
        self._connection: Connection | None = None
        self._idle: list[Connection] = []
        self._waiting: set[Connection] = set()
        self._return: asyncio.Task[None] | None = None
        self._scripts = {path.stem: Script.read(path) for path in _SCRIPTS.glob("*.lua")}

    @classmethod
    async def open(cls, url: str, timeout_ms: int = 2000) -> RedisLink:
        """A link that has answered once.

        Args:
            timeout_ms: How long any command may take.

        Raises:
            StoreUnavailable: Nobody answers there now.
            InvalidParameter: The URL is none.
        """
        link = cls(Address.parsed(url), timeout_ms)
        link._connection = await link._connect(link._timeout_s, link._lost)
        return link

    @property
    def healthy(self) -> bool:
        """Redis is reachable as far as is known."""
        return self._connection is not None

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """The reply to a command; to be awaited. Strings come as bytes.

        Raises:
            RedisRefused: Redis answered with an error; a StoreUnavailable.
            StoreUnavailable: Redis is away, or silent.
        """
        if self._connection is not None:
            return self._connection.send(command)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(StoreUnavailable("Redis is not reachable"))
        return future

    async def script(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """What scripts/NAME.lua returns; loaded on its first use, and again after Redis has forgotten it."""
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
        connection = await self._waiter()
        try:
            async with asyncio.timeout(timeout_ms / 1000 + self._timeout_s):
                reply = await connection.send(command)
        except RedisRefused:
            self._rest(connection)
            raise
        except TimeoutError:
            self._drop(connection)
            raise StoreUnavailable(f"Redis did not answer {command[0]!r} in time") from None
        except BaseException:  # cancelled: the reply may still come, so the connection is of no more use
            self._drop(connection)
            raise
        self._rest(connection)
        return reply

    async def close(self) -> None:
        """Ends all connections; calls fail from now on."""
        if self._return is not None:
            self._return.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._return
        for connection in (self._connection, *self._idle, *self._waiting):
            if connection is not None:
                connection.close()
        self._connection = None

    # --- connections --------------------------------------------------------------------------------------------------

    async def _waiter(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                self._waiting.add(connection)
                return connection
        connection = await self._connect(math.inf, self._waiting.discard)
        self._waiting.add(connection)
        return connection

    def _rest(self, connection: Connection) -> None:
        self._waiting.discard(connection)
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def _drop(self, connection: Connection) -> None:
        self._waiting.discard(connection)
        connection.close()

    async def _connect(self, timeout_s: float, on_lost: Callable[[Connection], None]) -> Connection:
        """A connection that has answered a PING.

        Raises:
            StoreUnavailable: None could be had in time.
        """
        loop = asyncio.get_running_loop()
        address, connection = self._address, Connection(timeout_s, on_lost)
        try:
            async with asyncio.timeout(self._timeout_s):
                if address.path:
                    await loop.create_unix_connection(lambda: connection, address.path)
                else:
                    await loop.create_connection(lambda: connection, address.host, address.port)
                await self._greet(connection)
        except (OSError, TimeoutError, StoreUnavailable) as error:
            connection.close()
            raise StoreUnavailable(f"Redis is not reachable: {error or 'no answer'}") from error
        except BaseException:
            connection.close()
            raise
        if connection.lost:  # between the answer and now
            raise StoreUnavailable("Redis answered and hung up")
        return connection

    async def _greet(self, connection: Connection) -> None:
        if self._address.login:
            await connection.send(("AUTH", *self._address.login))
        if self._address.database:
            await connection.send(("SELECT", self._address.database))
        await connection.send(("PING",))

    # --- coming back --------------------------------------------------------------------------------------------------

    def _lost(self, connection: Connection) -> None:
        if connection is not self._connection:
            return  # one that was still being made; whoever makes it knows
        self._connection = None
        log.warning("lost Redis")
        self._return = asyncio.get_running_loop().create_task(self._come_back())

    async def _come_back(self) -> None:
        backoff_s = 0.02
        while self._connection is None:
            await asyncio.sleep(random.uniform(0, backoff_s))  # noqa: S311  # jitter, so that gateways do not come at once
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            with contextlib.suppress(StoreUnavailable):
                self._connection = await self._connect(self._timeout_s, self._lost)
        log.info("Redis is back")
