"""The fleet link, both ends: how the controller deals slots to a gateway (DESIGN.md has the messages).

    gateway: FleetLink    fulfils `ports.Fleet`: answers from memory, tells the controller, calls a `FleetListener`
    controller: FleetServer   speaks for a `SlotKeeper`, which makes the slots

The link may break at any moment and nobody waits for it. What a gateway has said is kept until the controller has made
it true (`took`, `retire`) or it is said again (`want`), and is repeated after every reconnect; so the controller's side
has to take everything twice. What the controller has is said anew to each gateway that connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final, Protocol

from okiba.core.errors import InvalidParameter
from okiba.ports import FleetListener, SlotAddress

log = logging.getLogger(__name__)

Message = Mapping[str, Any]

LONGEST_LINE: Final = 64 * 1024
LONGEST_BACKLOG: Final = 4 * 1024 * 1024
"""Bytes that may wait for a gateway that does not read; it is cut off then, and gets everything when it is back."""

HELLO_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.02
LAST_PAUSE_S: Final = 2.0
"""Pauses between tries double from the first to the last: a restarted controller listens again within a second."""


def fleet_token(platform_key: str) -> str:
    """What a gateway proves with that it belongs to this installation."""
    return hmac.new(bytes.fromhex(platform_key), b"fleet", hashlib.sha256).hexdigest()


class FleetLink:
    """The gateway's end: `ports.Fleet`."""

    def __init__(self, address: str, gateway: str, epoch: int, platform_key: str) -> None:
        self._address = address
        self._hello = {"hello": gateway, "epoch": epoch, "token": fleet_token(platform_key)}
        self._warm: dict[str, dict[str, SlotAddress]] = {}
        self._known: set[str] = set()
        self._taken: dict[str, SlotAddress] = {}
        self._retiring: set[str] = set()
        self._wanted: dict[str, int] = {}
        self._writer: asyncio.StreamWriter | None = None

    # --- ports.Fleet ------------------------------------------------------------------------------------------------

    def claim(self, kinds: Sequence[str]) -> SlotAddress | None:
        """A warm slot of the first kind that has one; the one dealt last, its pages are the warmest."""
        for kind in kinds:
            if pool := self._warm.get(kind):
                return pool.popitem()[1]
        return None

    def took(self, slot: SlotAddress) -> None:
        """Tells the controller whose the slot has become."""
        self._taken[slot.id] = slot
        self._say(_took(slot))

    def want(self, kind: str, count: int) -> None:
        """Tells the controller how many calls wait for slots of this kind."""
        if count:
            self._wanted[kind] = count
        else:
            self._wanted.pop(kind, None)
        self._say({"want": kind, "count": count})

    def retire(self, slot_id: str) -> None:
        """Has the slot ended."""
        if slot_id in self._known:
            self._retiring.add(slot_id)
            self._say({"retire": slot_id})

    # --- for status ---------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the controller is there right now."""
        return self._writer is not None

    def warm(self) -> dict[str, int]:
        """Warm slots by kind."""
        return {kind: len(pool) for kind, pool in self._warm.items() if pool}

    # --- the connection -----------------------------------------------------------------------------------------------

    async def run(self, listener: FleetListener) -> None:
        """Keeps the link up; for ever, until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            with contextlib.suppress(OSError, TimeoutError, ValueError, KeyError):
                reader, self._writer = await _connect(self._address)
                try:
                    if await self._converse(reader, listener):
                        pause_s = FIRST_PAUSE_S
                finally:
                    self._writer.close()
                    self._writer = None
                log.warning("the link to the controller is down", extra={"address": self._address})
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 (so that gateways do not come as one)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)

    async def _converse(self, reader: asyncio.StreamReader, listener: FleetListener) -> bool:
        """Says hello and what is still open, then listens; True if the controller answered."""
        for message in self._open_matters():
            self._say(message)
        seen: set[str] | None = set()
        while line := await _read(reader):
            if "slot" in line:
                self._dealt(_slot(line["slot"]), listener)
                if seen is not None:
                    seen.add(line["slot"]["id"])
            elif "gone" in line:
                self._gone(line["gone"], line.get("reason", ""), listener)
            elif "synced" in line and seen is not None:
                for slot_id in self._known - seen:
                    self._gone(slot_id, "it ended while the controller was away", listener)
                seen = None
                listener.fleet_synced()
        return seen is None

    def _open_matters(self) -> list[Message]:
        return [
            self._hello,
            *(_took(slot) for slot in self._taken.values()),
            *({"want": kind, "count": count} for kind, count in self._wanted.items()),
            *({"retire": slot_id} for slot_id in self._retiring),
        ]

    def _dealt(self, slot: SlotAddress, listener: FleetListener) -> None:
        if slot.id in self._known:
            return  # told again after a reconnect: claimed, taken or still in the pool, as it was
        self._known.add(slot.id)
        if slot.function:
            self._taken[slot.id] = slot
        else:
            self._warm.setdefault(slot.kind, {})[slot.id] = slot
        listener.slot_dealt(slot)

    def _gone(self, slot_id: str, reason: str, listener: FleetListener) -> None:
        self._known.discard(slot_id)
        self._taken.pop(slot_id, None)
        self._retiring.discard(slot_id)
        for pool in self._warm.values():
            pool.pop(slot_id, None)
        listener.slot_gone(slot_id, reason)

    def _say(self, message: Message) -> None:
        if self._writer is not None:
            self._writer.write(_line(message))


class SlotKeeper(Protocol):
    """Who makes and ends slots, as the server needs it; everything may be told twice."""

    def slots(self) -> Sequence[SlotAddress]:
        """Every slot that may be dealt, or has been."""
        ...

    def took(self, slot_id: str, function: str, revision: str) -> None:
        """The slot has become this function's."""
        ...

    def want(self, kind: str, count: int) -> None:
        """So many calls wait for slots of this kind."""
        ...

    def retire(self, slot_id: str) -> None:
        """The slot is to end; the keeper says `gone` when it has, also of one that it does not know."""
        ...


class FleetServer:
    """The controller's end: one gateway at a time, the one with the highest epoch."""

    def __init__(self, address: str, platform_key: str, keeper: SlotKeeper) -> None:
        self._address = address
        self._token = fleet_token(platform_key)
        self._keeper = keeper
        self._gateway: asyncio.StreamWriter | None = None
        self._epoch = -1
        self._wanted: set[str] = set()

    def deal(self, slot: SlotAddress) -> None:
        """Tells the gateway, if one is there, of a new slot."""
        self._say({"slot": asdict(slot)})

    def gone(self, slot_id: str, reason: str) -> None:
        """Tells the gateway that a slot's processes have ended."""
        self._say({"gone": slot_id, "reason": reason})

    async def run(self) -> None:
        """Serves gateways; for ever, until cancelled."""
        server = await _listen(self._address, self._serve)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            if self._gateway is not None:
                self._gateway.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HELLO_S):
                hello = await _read(reader)
            if hello and self._admitted(hello, writer):  # empty: somebody wanted to know whether we listen
                while self._gateway is writer and (message := await _read(reader)):
                    self._heard(message)
        except (OSError, TimeoutError, ValueError, KeyError) as error:
            log.warning("a gateway's connection ended badly", extra={"reason": repr(error)})
        finally:
            writer.close()
            if self._gateway is writer:
                self._gateway = None
                self._forget_wants()

    def _admitted(self, hello: Message, writer: asyncio.StreamWriter) -> bool:
        token, epoch = hello.get("token"), hello.get("epoch")
        if not isinstance(token, str) or not hmac.compare_digest(token.encode(), self._token.encode()):
            log.warning("a gateway was refused: wrong token")
            return False
        if not isinstance(epoch, int) or epoch < self._epoch:
            log.warning("a gateway was refused: there is a newer one", extra={"epoch": epoch, "newest": self._epoch})
            return False
        if self._gateway is not None:
            self._gateway.close()
        self._forget_wants()
        self._gateway, self._epoch = writer, epoch
        for slot in self._keeper.slots():
            self.deal(slot)
        self._say({"synced": True})
        return True

    def _heard(self, message: Message) -> None:
        if "took" in message:
            self._keeper.took(message["took"], message["function"], message["revision"])
        elif "want" in message:
            self._wanted.add(message["want"])
            self._keeper.want(message["want"], message["count"])
        elif "retire" in message:
            self._keeper.retire(message["retire"])

    def _forget_wants(self) -> None:
        """A gateway's callers are gone with it."""
        for kind in self._wanted:
            self._keeper.want(kind, 0)
        self._wanted.clear()

    def _say(self, message: Message) -> None:
        if self._gateway is None:
            return
        self._gateway.write(_line(message))
        if self._gateway.transport.get_write_buffer_size() > LONGEST_BACKLOG:
            self._gateway.transport.abort()


def _took(slot: SlotAddress) -> Message:
    return {"took": slot.id, "function": slot.function, "revision": slot.revision}


def _slot(document: Mapping[str, str]) -> SlotAddress:
    return replace(SlotAddress("", "", ""), **{field.name: document[field.name] for field in fields(SlotAddress)})


def _line(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message; empty at the end of the stream."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return {}
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"expected a JSON object, got {line[:80]!r}")  # noqa: TRY004 (of the peer, not of a caller)
    return message


def _place(address: str) -> tuple[str, int]:
    """Host and port of `tcp:host:port`, or path and 0 of `unix:/path`."""
    scheme, _, rest = address.partition(":")
    if scheme == "unix" and rest:
        return rest, 0
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host and port.isdigit():
        return host, int(port)
    raise InvalidParameter(f"OKIBA_FLEET_ADDRESS must be unix:/path or tcp:host:port, got {address!r}")


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = _place(address)
    async with asyncio.timeout(HELLO_S):
        if port:
            return await asyncio.open_connection(host, port, limit=LONGEST_LINE)
        return await asyncio.open_unix_connection(host, limit=LONGEST_LINE)


async def _listen(address: str, serve: Any) -> asyncio.Server:
    host, port = _place(address)
    if port:
        return await asyncio.start_server(serve, host, port, limit=LONGEST_LINE)
    Path(host).unlink(missing_ok=True)
    return await asyncio.start_unix_server(serve, host, limit=LONGEST_LINE)
