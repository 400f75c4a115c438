"""A link to one Redis server: a connection for all commands, further ones for those that block.

Which server that is says whoever makes the link, anew for each connection: always the same, or the one that Sentinels
say is the primary just now.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from okiba.adapters.redis_address import Address
from okiba.adapters.redis_connection import Argument, Connection, RedisRefused
from okiba.core.errors import StoreUnavailable

log = logging.getLogger(__name__)

MAX_BACKOFF_S: Final = 1.0
MAX_IDLE: Final = 8
"""Connections kept for commands that block, once nobody blocks on them."""


async def connected(
    address: Address, timeout_s: float, patience_s: float, on_lost: Callable[[Connection], None]
) -> Connection:
    """A connection that was let in and has answered a PING.

    Args:
        timeout_s: How long a command on it may take; infinite where commands may block.
        patience_s: How long making it may take.

    Raises:
        StoreUnavailable: None could be had in time.
    """
    loop = asyncio.get_running_loop()
    connection = Connection(timeout_s, on_lost)
    try:
        async with asyncio.timeout(patience_s):
            if address.path:
                await loop.create_unix_connection(lambda: connection, address.path)
            else:
                tls = address.tls_context()
                await loop.create_connection(lambda: connection, address.host, address.port, ssl=tls)
            await _let_in(connection, address)
    except (OSError, TimeoutError, StoreUnavailable) as error:
        connection.close()
        raise StoreUnavailable(f"Redis is not reachable: {error or 'no answer'}") from error
    except BaseException:
        connection.close()
        raise
    if connection.lost:  # between the answer and now
        raise StoreUnavailable("Redis answered and hung up")
    return connection


async def asked(address: Address, patience_s: float, *command: Argument) -> Any:
    """The reply to one command, on a connection of its own.

    Args:
        patience_s: How long connecting may take, and the answer.

    Raises:
        StoreUnavailable: It could not be had in time.
    """
    connection = await connected(address, patience_s, patience_s, lambda _connection: None)
    try:
        return await connection.send(command)
    finally:
        connection.close()


async def _let_in(connection: Connection, address: Address) -> None:
    if address.login:
        await connection.send(("AUTH", *address.login))
    if address.database:
        await connection.send(("SELECT", address.database))
    await connection.send(("PING",))


class ServerLink:
    """Made by `open`, or by `begin` where nobody waits for it; ended by `close`.

    Args:
        find: The server's address just now, or StoreUnavailable.
        primary_only: The server has to be a primary; where Sentinels may be behind the times.
        replicas: So many must have a change before it counts as made.
        on_lost: Told whenever the server is lost.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Address]],
        timeout_ms: int,
        *,
        primary_only: bool = False,
        replicas: int = 0,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._find = find
        self._timeout_s = timeout_ms / 1000
        self._primary_only = primary_only
        self._replicas = replicas
        self._on_lost = on_lost
        self._address: Address | None = None
        self._connection: Connection | None = None
        self._idle: list[Connection] = []
        self._waiting: set[Connection] = set()
        self._return: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Returns once the server has answered.

        Raises:
            StoreUnavailable: It does not now.
        """
        self._connection = await self._connect()

    def begin(self) -> None:
        """Connects in the background; until then calls fail."""
        self._return = asyncio.get_running_loop().create_task(self._come_back())

    async def back(self) -> None:
        """Returns once the server has answered, after `begin` or when it was lost."""
        if self._return is not None:
            await asyncio.shield(self._return)

    @property
    def address(self) -> Address | None:
        """Of the server that answered last; None before the first."""
        return self._address

    @property
    def healthy(self) -> bool:
        """The server is reachable as far as is known."""
        return self._connection is not None

    def call(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """The reply to a command; to be awaited."""
        if self._connection is not None:
            return self._connection.send(command)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(StoreUnavailable("Redis is not reachable"))
        return future

    async def wait(self, command: tuple[Argument, ...], timeout_ms: int) -> Any:
        """The reply to a command that blocks, on a connection of its own."""
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
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._leave_waiters()

    # --- connections for commands that block --------------------------------------------------------------------------

    async def _waiter(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                self._waiting.add(connection)
                return connection
        # Where the other commands go: Sentinels that are behind the times would name another server.
        address = self._address or await self._find()
        connection = await connected(address, math.inf, self._timeout_s, self._waiting.discard)
        self._waiting.add(connection)
        return connection

    def _rest(self, connection: Connection) -> None:
        self._waiting.discard(connection)
        if len(self._idle) < MAX_IDLE and not connection.lost:
            self._idle.append(connection)
        else:
            connection.close()

    def _drop(self, connection: Connection) -> None:
        self._waiting.discard(connection)
        connection.close()

    def _leave_waiters(self) -> None:
        for connection in (*self._idle, *self._waiting):
            connection.close()
        self._idle.clear()

    # --- the connection for all others --------------------------------------------------------------------------------

    async def _connect(self) -> Connection:
        address = await self._find()
        connection = await connected(address, self._timeout_s, self._timeout_s, self._lost)
        if self._primary_only:
            await self._check_primary(connection)
        connection.replicas = self._replicas
        if address != self._address:
            self._leave_waiters()  # they wait at the former primary, where nothing happens any more
        self._address = address
        return connection

    async def _check_primary(self, connection: Connection) -> None:
        try:
            role, *_ = await connection.send(("ROLE",))
        except BaseException:
            connection.close()
            raise
        if role != b"master":
            connection.close()
            raise StoreUnavailable(f"Sentinels name a server whose role is {role.decode()}, expected the primary")

    def _lost(self, connection: Connection) -> None:
        if connection is not self._connection:
            return  # one that was still being made; whoever makes it knows
        self._connection = None
        log.warning("lost Redis")
        self.begin()
        self._on_lost()

    async def _come_back(self) -> None:
        backoff_s = 0.02
        while self._connection is None:
            await asyncio.sleep(random.uniform(0, backoff_s))  # noqa: S311  # jitter, so that gateways do not come at once
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            with contextlib.suppress(StoreUnavailable):
                self._connection = await self._connect()
        log.warning("Redis is back")
