"""The fleet link, the gateway's end: `FleetLink` fulfils `ports.Fleet` (DESIGN.md has the messages).

It answers from memory, tells the controller, and calls a `FleetListener`. The link may break at any moment and nobody
waits for it. What has been said is kept until the controller has made it true (`took`, `retire`, `doubt`) or it is said
again (`want`), and is repeated after every reconnect; so the controller's side takes everything twice. What the
controller has is said anew to each gateway that connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict
from typing import Final

from okiba.adapters.fleet_server import FleetServer, SlotKeeper
from okiba.adapters.fleet_wire import Message, connect, fleet_token, line, read, slot_of
from okiba.adapters.warm_pool import WarmPool
from okiba.core.backoff import Backoff
from okiba.core.errors import PlatformError
from okiba.ports import FleetListener, SlotAddress

__all__ = ["FleetLink", "FleetServer", "SlotKeeper", "fleet_token"]

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.02
LAST_PAUSE_S: Final = 2.0
"""Pauses between tries double from the first to the last: a restarted controller listens again within a second."""

LEADER_S: Final = 1.0
"""How often a gateway asks whether another controller leads by now."""

Leader = Callable[[], Awaitable[tuple[str, int] | None]]
"""Where the leading controller listens, and the epoch of its leadership; None while nobody leads."""


class FleetLink:
    """The gateway's end.

    Args:
        address: Where the controller listens; empty where `leader` says it.
        gateway: Names this gateway; `life` tells its lives apart.
        leader: Asked on each reconnect, and now and then. May raise whatever a store may.
    """

    def __init__(self, address: str, gateway: str, life: int, platform_key: str, leader: Leader | None = None) -> None:
        self._address = address
        self._leader = leader
        self._leader_epoch = -1
        self._gateway = gateway
        self._token = fleet_token(platform_key)
        self.life = life
        self._pool = WarmPool()
        self._dealt: set[str] = set()  # warm slots that are this gateway's; claimed, until they are taken
        self._taken: dict[str, SlotAddress] = {}  # everybody's
        self._of_function: dict[str, dict[str, SlotAddress]] = {}
        self._mine: dict[str, int] = {}  # taken by this gateway, with the epoch
        self._retiring: dict[str, int] = {}
        self._wanted: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._doubts: set[tuple[str, int]] = set()
        self._writer: asyncio.StreamWriter | None = None

    # --- ports.Fleet ------------------------------------------------------------------------------------------------

    def claim(self, kinds: Sequence[str], function: str, revision: str) -> SlotAddress | None:
        """A warm slot of the first kind that has one, now this gateway's; None when all are empty."""
        return self._pool.claim(kinds, function, revision)

    def took(self, slot: SlotAddress, epoch: int) -> None:
        """Tells the controller whose the slot becomes."""
        self._dealt.discard(slot.id)
        self._note_taken(slot)
        self._mine[slot.id] = epoch
        self._say(_took(slot, epoch))

    def taken(self, function: str) -> Sequence[SlotAddress]:
        """Every slot of the function that is known of."""
        return list(self._of_function.get(function, {}).values())

    def functions(self) -> Collection[str]:
        """Functions of which slots are known."""
        return list(self._of_function)

    def want(self, kind: str, count: int, each: Sequence[int] = ()) -> None:
        """Tells the controller how many calls wait for slots of this kind."""
        if count:
            self._wanted[kind] = count, tuple(each)
        else:
            self._wanted.pop(kind, None)
        self._say(_want(kind, count, each))

    def retire(self, slot_id: str, epoch: int) -> None:
        """Has the slot ended, unless a later owner has it."""
        if slot_id in self._dealt or slot_id in self._taken:
            self._retiring[slot_id] = epoch
            self._say({"retire": slot_id, "epoch": epoch})

    def disclaim(self, function: str, revision: str = "") -> None:
        """Warm slots that were kept for a function's revision go."""
        for slot_id in self._pool.disclaim(function, revision):
            self.retire(slot_id, 0)

    def doubt(self, gateway: str, life: int) -> None:
        """Asks what became of a dead gateway's warm slots, until it is answered, and again after each reconnect."""
        self._doubts.add((gateway, life))
        self._say({"dead": gateway, "life": life})

    def trust(self, gateway: str, life: int) -> None:
        """The doubt is settled."""
        self._doubts.discard((gateway, life))

    # --- for the process ----------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the controller is there right now."""
        return self._writer is not None

    def warm(self) -> dict[str, int]:
        """Warm slots by kind."""
        return self._pool.counts()

    def reborn(self, life: int) -> None:
        """Goes on as another life, after the controller took the one before for dead, with nothing in hand."""
        self.life = life
        self._drop_pool()
        self._retiring.clear()
        self._hang_up()

    def disown(self, slot_id: str) -> None:
        """The slot is another owner's by now: nothing more is said of it."""
        self._mine.pop(slot_id, None)
        self._retiring.pop(slot_id, None)

    async def leave(self) -> None:
        """Gives every warm slot back, and says goodbye: nobody has to find out whether this gateway lives."""
        self._say({"returned": self._drop_pool()})
        self._say({"bye": self._gateway})
        if self._writer is not None:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._writer.drain()

    # --- the connection -----------------------------------------------------------------------------------------------

    async def run(self, listener: FleetListener) -> None:
        """Keeps the link up; for ever, until cancelled."""
        backoff = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S)
        while True:
            with contextlib.suppress(OSError, TimeoutError, ValueError, KeyError):
                if (address := await self._find()) and await self._meet(address, listener):
                    backoff.succeeded()
            await asyncio.sleep(backoff.failed() * random.uniform(0.5, 1.5))  # noqa: S311 (so that gateways do not come as one)

    async def _find(self) -> str:
        """Where to connect; empty while no controller leads that is later than those known."""
        if self._address or self._leader is None:
            return self._address
        led = await self._led()
        if led is None or led[1] < self._leader_epoch:
            return ""
        address, self._leader_epoch = led
        return address

    async def _led(self) -> tuple[str, int] | None:
        try:
            return await self._leader() if self._leader else None
        except PlatformError:
            return None  # the store is away: the controller that is known goes on

    async def _meet(self, address: str, listener: FleetListener) -> bool:
        reader, self._writer = await connect(address)
        watch = None if self._address else asyncio.ensure_future(self._watch_leader())
        try:
            return await self._converse(reader, listener)
        finally:
            if watch is not None:
                watch.cancel()
            self._hang_up()
            self._writer = None
            log.warning("the link to the controller is down", extra={"address": address})

    async def _watch_leader(self) -> None:
        """Leaves a controller that another has replaced, which may not know it yet."""
        while True:
            await asyncio.sleep(LEADER_S)
            led = await self._led()
            if led is not None and led[1] > self._leader_epoch:
                self._hang_up()

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def _converse(self, reader: asyncio.StreamReader, listener: FleetListener) -> bool:
        """Says hello and what is still open, then listens; True if the controller answered."""
        for message in self._open_matters():
            self._say(message)
        seen: set[str] | None = set()
        while message := await read(reader):
            if "slot" in message:
                slot = slot_of(message["slot"])
                if seen is not None:
                    seen.add(slot.id)
                self._heard_of(slot, listener)
            elif "synced" in message and seen is not None:
                self._miss((self._dealt | set(self._taken)) - seen, listener)
                seen = None
                listener.fleet_synced()
            elif "refused" in message:
                listener.fleet_refused()
            else:
                self._heard(message, listener)
        return seen is None

    def _open_matters(self) -> list[Message]:
        hello = {"hello": self._gateway, "epoch": self.life, "token": self._token}
        took = [_took(self._taken[slot_id], epoch) for slot_id, epoch in self._mine.items() if slot_id in self._taken]
        return [
            hello,
            {"holds": sorted(self._dealt)},
            *took,
            *(_want(kind, count, each) for kind, (count, each) in self._wanted.items()),
            *({"retire": slot_id, "epoch": epoch} for slot_id, epoch in self._retiring.items()),
            *({"dead": gateway, "life": life} for gateway, life in sorted(self._doubts)),
            {"listening": True},
        ]

    def _heard(self, message: Message, listener: FleetListener) -> None:
        if "gone" in message:
            self._gone(message["gone"], message.get("reason", ""), listener)
        elif "dead" in message:
            listener.doubt_answered(message["dead"], message["life"], message["slots"])
        elif "return" in message:
            returned = self._pool.give_back(message["return"])
            self._dealt.difference_update(returned)
            for slot_id in returned:
                self._pool.ended(slot_id)
            self._say({"returned": returned, "pod": message["return"]})
        elif "lost" in message:
            self._dealt.discard(message["lost"])
            self._pool.ended(message["lost"])

    def _heard_of(self, slot: SlotAddress, listener: FleetListener) -> None:
        if slot.id in self._dealt or slot.id in self._taken:
            return  # told again after a reconnect: claimed, taken or still in the pool, as it was
        if slot.function:
            self._note_taken(slot)
        else:
            self._dealt.add(slot.id)
            self._pool.add(slot)
        listener.slot_dealt(slot)

    def _note_taken(self, slot: SlotAddress) -> None:
        self._taken[slot.id] = slot
        self._of_function.setdefault(slot.function, {})[slot.id] = slot

    def _miss(self, slots: set[str], listener: FleetListener) -> None:
        for slot_id in slots:
            self._gone(slot_id, "it ended while the controller was away", listener)

    def _gone(self, slot_id: str, reason: str, listener: FleetListener) -> None:
        self._dealt.discard(slot_id)
        self._mine.pop(slot_id, None)
        self._retiring.pop(slot_id, None)
        self._pool.ended(slot_id)
        slot = self._taken.pop(slot_id, None)
        if slot is not None:
            of_function = self._of_function.get(slot.function, {})
            of_function.pop(slot_id, None)
            if not of_function:
                self._of_function.pop(slot.function, None)
        listener.slot_gone(slot_id, reason)

    def _drop_pool(self) -> list[str]:
        slots = self._pool.clear()
        self._dealt.difference_update(slots)
        for slot_id in slots:
            self._pool.ended(slot_id)
        return slots

    def _say(self, message: Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(line(message))


def _took(slot: SlotAddress, epoch: int) -> Message:
    return {"took": slot.id, "function": slot.function, "revision": slot.revision, "epoch": epoch, "slot": asdict(slot)}


def _want(kind: str, count: int, each: Sequence[int]) -> Message:
    return {"want": kind, "count": count, "each": list(each)}
