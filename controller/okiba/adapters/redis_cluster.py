"""A link to a Redis cluster: a link to each primary, and the map of which slots are whose.

The map is as old as the last answer that contradicted it: MOVED corrects it, and while a server is away it is read
again until every slot has its server. A script that is given a function's tag touches keys that it does not name, so
it is refused while that slot is being moved, as if Redis were away: some of the keys are here, others there.

By hand and not by redis-py's RedisCluster for the reason that the plain connection is (`redis_connection`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from okiba.adapters.redis_address import Address, Place
from okiba.adapters.redis_connection import Argument, RedisRefused
from okiba.adapters.redis_server import MAX_BACKOFF_S, ServerLink, asked
from okiba.core.backoff import Backoff
from okiba.core.errors import StoreUnavailable

log = logging.getLogger(__name__)

MAX_HOPS: Final = 5
"""Redirections of one command; more than one already means that the cluster is changing shape."""

FIRST_BACKOFF_S: Final = 0.05
"""The pause before the map is read again; it doubles up to `MAX_BACKOFF_S`."""

_WITHOUT_KEY: Final = frozenset(("CLIENT", "CONFIG", "ECHO", "INFO", "PING", "SCRIPT", "TIME"))
_SECOND: Final = frozenset(("XGROUP", "XINFO"))
_STREAMS: Final = frozenset(("XREAD", "XREADGROUP"))
_SCRIPTS: Final = frozenset(("EVAL", "EVALSHA"))

_Range = tuple[int, int, Address]


def key_of(command: tuple[Argument, ...]) -> Argument | None:
    """The (first) key of a command as this program gives them; None where there is none."""
    name = command[0]
    if name in _SCRIPTS:
        return command[3] if command[2] else None
    if name in _STREAMS:
        return command[command.index("STREAMS") + 1]
    if name in _SECOND:
        return command[2]
    return None if name in _WITHOUT_KEY else command[1]


class ClusterLink:
    """Made by `open`, ended by `close`."""

    def __init__(self, place: Place, timeout_ms: int) -> None:
        self._place = place
        self._timeout_ms = timeout_ms
        self._nodes: dict[tuple[str, int], ServerLink] = {}
        self._slots: list[ServerLink | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._looking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Returns once every slot has a server that has answered.

        Raises:
            StoreUnavailable: That is not so now.
        """
        self._learn(await self._read_map())
        async with asyncio.timeout(self._timeout_ms / 1000):
            await asyncio.gather(*(node.back() for node in self._nodes.values()))

    @property
    def healthy(self) -> bool:
        """Every slot has a server that is reachable as far as is known."""
        return None not in self._slots and all(node.healthy for node in self._nodes.values())

    def call(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """The reply to a command; to be awaited."""
        outer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._send(outer, self._node_for(command), command, MAX_HOPS)
        return outer

    async def wait(self, command: tuple[Argument, ...], timeout_ms: int) -> Any:
        """The reply to a command that blocks, on a connection of its own."""
        node = self._node_for(command)
        for _ in range(MAX_HOPS):
            if node is None:
                break
            try:
                return await node.wait(command, timeout_ms)
            except RedisRefused as error:
                self._look_again(error)
                if error.refusal != "MOVED":
                    raise
                node = self._named(error, node)
        raise _uncovered()

    async def close(self) -> None:
        """Ends all connections; calls fail from now on."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        nodes, self._nodes = self._nodes, {}
        self._slots = [None] * REDIS_CLUSTER_HASH_SLOTS
        await asyncio.gather(*(node.close() for node in nodes.values()), *self._closing)

    # --- sending ------------------------------------------------------------------------------------------------------

    def _node_for(self, command: tuple[Argument, ...]) -> ServerLink | None:
        key = key_of(command)
        if key is None:
            return next((node for node in self._nodes.values() if node.healthy), None)
        return self._slots[key_slot(key if isinstance(key, bytes) else str(key).encode())]

    def _send(
        self, outer: asyncio.Future[Any], node: ServerLink | None, command: tuple[Argument, ...], hops: int
    ) -> None:
        if node is None or hops == 0:
            self._look()
            outer.set_exception(_uncovered())
            return
        node.call(command).add_done_callback(partial(self._answered, outer, node, command, hops))

    def _answered(
        self,
        outer: asyncio.Future[Any],
        node: ServerLink,
        command: tuple[Argument, ...],
        hops: int,
        inner: asyncio.Future[Any],
    ) -> None:
        error = inner.exception()
        if outer.done():
            return  # its caller was cancelled
        if error is None:
            outer.set_result(inner.result())
            return
        if isinstance(error, RedisRefused):
            self._look_again(error)
            if error.refusal == "MOVED":
                self._send(outer, self._named(error, node), command, hops - 1)
                return
            if error.refusal == "ASK" and not _touches_more(command):
                target = self._named(error, node)
                target.call(("ASKING",)).add_done_callback(lambda asking: asking.exception())
                self._send(outer, target, command, hops - 1)
                return
        outer.set_exception(error)

    def _named(self, error: RedisRefused, asked: ServerLink) -> ServerLink:
        """The node that a redirection names; an empty host is that of the node which says so."""
        slot, _, name = error.detail.partition(" ")
        host, _, port = name.rpartition(":")
        node = self._node(self._reached(host, int(port), asked.address))
        if error.refusal == "MOVED":
            self._slots[int(slot)] = node
        return node

    # --- the map ------------------------------------------------------------------------------------------------------

    def _look_again(self, error: RedisRefused) -> None:
        if error.refusal in ("MOVED", "CLUSTERDOWN"):
            self._look()

    def _look(self) -> None:
        """The map is read again, soon, and until all is well."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_until_well())

    async def _look_until_well(self) -> None:
        backoff = Backoff(FIRST_BACKOFF_S, MAX_BACKOFF_S)
        while True:
            with contextlib.suppress(StoreUnavailable):
                self._learn(await self._read_map())
            await asyncio.sleep(backoff.failed(random.random()))  # noqa: S311  # jitter
            if self.healthy:
                return

    async def _read_map(self) -> list[_Range]:
        """Which slots are whose, as the first node says that answers; those that are known first.

        Raises:
            StoreUnavailable: None does.
        """
        reason: StoreUnavailable | None = None
        for address in self._known():
            try:
                return await self._ask(address)
            except StoreUnavailable as error:
                reason = error
        raise StoreUnavailable(f"no node of the Redis cluster answers: {reason}")

    async def _ask(self, address: Address) -> list[_Range]:
        ranges = await asked(address, self._timeout_ms / 1000, "CLUSTER", "SLOTS")
        return [(first, last, self._told(primary, address)) for first, last, primary, *_ in ranges]

    def _told(self, node: list[Any], asked: Address) -> Address:
        return self._reached((node[0] or b"").decode(), int(node[1]), asked)

    def _reached(self, host: str, port: int, asked: Address | None) -> Address:
        """The address of a node as another one names it; `?` and nothing stand for a host that it does not know."""
        unknown = host in ("", "?")
        return self._place.server(asked.host if unknown and asked else host.strip("[]"), port)

    def _known(self) -> Iterable[Address]:
        healthy = [node.address for node in self._nodes.values() if node.healthy and node.address]
        random.shuffle(healthy)
        return dict.fromkeys([*healthy, *self._place.addresses, *(self._place.server(*at) for at in self._nodes)])

    def _learn(self, ranges: list[_Range]) -> None:
        slots: list[ServerLink | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, address in ranges:
            slots[first : last + 1] = [self._node(address)] * (last + 1 - first)
        self._slots = slots
        used = {(address.host, address.port) for _, _, address in ranges}
        for gone in self._nodes.keys() - used:
            task = asyncio.get_running_loop().create_task(self._nodes.pop(gone).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _node(self, address: Address) -> ServerLink:
        """The link to a node; a new one connects in the background."""
        at = (address.host, address.port)
        if at not in self._nodes:

            async def find() -> Address:
                return address

            node = ServerLink(find, self._timeout_ms, replicas=self._place.replicas, on_lost=self._look)
            self._nodes[at] = node
            node.begin()
        return self._nodes[at]


def _touches_more(command: tuple[Argument, ...]) -> bool:
    """Whether it is a script that was given a tag and makes its keys of that."""
    return command[0] in _SCRIPTS and str(command[3]).endswith("}")


def _uncovered() -> StoreUnavailable:
    return StoreUnavailable("no server of the Redis cluster has these keys just now")
