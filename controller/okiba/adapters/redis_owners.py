"""Who owns which function, and which gateways there are, in Redis; fulfils `flow.own.Owners`.

okiba:F:owner    one function's owner; changes hands by compare-and-set of its epoch
okiba:gateways   hash, a gateway's name → JSON {life, address, leaving, at_ms}
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, Final

from okiba.adapters.redis_link import RedisLink
from okiba.core.membership import Beat, Member
from okiba.core.placement import HandedSlot, Owner, inherited_doubts

GATEWAYS: Final = "okiba:gateways"
EPOCH: Final = "okiba:epoch"

FORGET_MS: Final = 3_600_000
"""A gateway that has not been heard of for so long is struck off."""

KEEP_MS: Final = 7 * 86_400_000
"""How long the record of a deleted function's owner stays: as long as its dead letters."""


class RedisOwners:
    """The records of one tenant's functions."""

    def __init__(self, link: RedisLink, tenant: str) -> None:
        self._link = link
        self._tenant = tenant

    async def new_life(self) -> int:
        """A number higher than every gateway's life before, and than every epoch that those claimed first."""
        return int(await self._link.call("INCR", EPOCH))

    async def beat(self, me: Member) -> tuple[int, list[Beat]] | None:
        """Says that `me` lives; the store's clock in ms and every gateway's last beat. None: it has a later life."""
        arguments = (me.name, me.life, me.address, int(me.leaving), FORGET_MS)
        now_ms, entries = await self._link.script("gateways_beat", [GATEWAYS], arguments)
        return (now_ms, _beats(entries)) if now_ms else None

    async def beats(self) -> tuple[int, list[Beat]]:
        """The same without saying anything."""
        now_ms, entries = await self._link.script("gateways_look", [GATEWAYS], ())
        return now_ms, _beats(entries)

    async def leave(self, me: Member) -> None:
        """`me` ends, in good order."""
        await self._link.script("gateways_leave", [GATEWAYS], (me.name, me.life))

    async def read(self, functions: Sequence[str]) -> dict[str, Owner | None]:
        """What is on record about each function."""
        fields = ("gateway", "life", "epoch", "until", "doubts", "handed")
        records = await asyncio.gather(*(self._link.call("HMGET", self._key(name), *fields) for name in functions))
        return {name: _owner(record) for name, record in zip(functions, records, strict=True)}

    async def claim(self, function: str, me: Member, seen: Owner | None) -> int:
        """The epoch in which `me` owns the function from now on; 0 when the record is not as it was seen.

        A claim whose answer was lost may have been carried out: the record says so.
        """
        doubts = json.dumps(inherited_doubts(seen))
        arguments = (me.name, me.life, seen.epoch if seen else 0, doubts)
        return int(await self._link.script("owner_claim", [self._tag(function)], arguments))

    async def give_up(
        self,
        function: str,
        owner: str,
        epoch: int,
        doubts: Sequence[tuple[str, int]] = (),
        handed: Sequence[HandedSlot] = (),
        *,
        for_good: bool = False,
    ) -> bool:
        """Whoever is proposed may take the function, with these slots; False when it is not the owner's any more.

        Args:
            for_good: The function is gone; so is the record, after a while.
        """
        slots = json.dumps([astuple(slot) for slot in handed])
        arguments = (owner, epoch, json.dumps(list(doubts)), slots, KEEP_MS if for_good else 0)
        return bool(await self._link.script("owner_give_up", [self._tag(function)], arguments))

    def _tag(self, function: str) -> str:
        return f"okiba:{{{self._tenant}/{function}}}"

    def _key(self, function: str) -> str:
        return f"{self._tag(function)}:owner"


def _beats(entries: Sequence[bytes]) -> list[Beat]:
    return [_beat(name.decode(), json.loads(told)) for name, told in zip(entries[::2], entries[1::2], strict=True)]


def _beat(name: str, told: dict[str, Any]) -> Beat:
    return Beat(Member(name, told["address"], int(told["life"]), told["leaving"]), int(told["at_ms"]))


def _owner(record: Sequence[bytes | None]) -> Owner | None:
    gateway, life, epoch, until, doubts, handed = record
    if gateway is None:
        return None
    return Owner(
        gateway.decode(),
        int(life or 0),
        int(epoch or 0),
        (until or b"0") != b"0",
        tuple((name, number) for name, number in json.loads(doubts or b"[]")),
        tuple(HandedSlot(*fields) for fields in json.loads(handed or b"[]")),
    )
