"""Which gateway should own a function, and what a gateway has to do about the owner that is on record.

Rendezvous hashing proposes, the record decides: two gateways that see different neighbours propose differently for a
moment, and the record's compare-and-set lets one of them in. Nothing here reads a clock or a store.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class HandedSlot:
    """A specialised slot that an owner leaves to the next one.

    Args:
        busy: A synchronous call still runs in it: the former owner keeps the connection until that has been answered.
    """

    id: str
    kind: str
    address: str
    revision: str
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Owner:
    """What is on record about a function's owner.

    Args:
        gateway: Its name; `life` tells its lives apart.
        epoch: Counts the changes of hands; slots refuse connections of lower ones.
        free: It has given the function up: whoever is proposed may take it at once.
        doubts: Gateways (name, life) that were found dead with warm slots in hand which they may have specialised for
            the function; at most `MAX_DOUBTS`.
        handed: The function's slots as a former owner left them; empty unless `free`.
    """

    gateway: str
    life: int
    epoch: int
    free: bool = False
    doubts: tuple[tuple[str, int], ...] = ()
    handed: tuple[HandedSlot, ...] = ()


MAX_DOUBTS = 16
"""A doubt is cleared within seconds; so many gateways do not die one after the other meanwhile."""


class Step(Enum):
    """What a gateway does about a function."""

    TAKE = auto()
    KEEP = auto()
    GIVE_UP = auto()
    LOSE = auto()  # somebody else has it, though we believe that it is ours
    LEAVE = auto()


def proposed(function: str, gateways: Collection[str]) -> str | None:
    """The gateway that should own the function; None where there is none.

    When a gateway comes or goes, only functions move that it gets or had, which is one in so many as there are.

    Source:
        Thaler and Ravishankar, A Name-Based Mapping Scheme for Rendezvous (1996): the highest weight wins.
    """
    return max(gateways, key=lambda gateway: (_weight(function, gateway), gateway), default=None)


def _weight(function: str, gateway: str) -> bytes:
    return blake2b(f"{gateway}\0{function}".encode(), digest_size=8).digest()


def next_step(
    owner: Owner | None, me: str, my_life: int, held: int | None, living: Mapping[str, int], proposal: str | None
) -> Step:
    """What the gateway `me` does about a function.

    Args:
        owner: What is on record.
        held: The epoch in which this gateway believes to own it; None when it does not.
        living: Gateways that live, by name, with their lives; this one included.
        proposal: Who should own the function.
    """
    if held is not None and (owner is None or owner.epoch < held) and proposal != me:
        return Step.KEEP  # what was read is older than what we did since
    if owner is None or owner.free:
        return Step.TAKE if proposal == me else Step.LOSE if held is not None else Step.LEAVE
    if owner.gateway == me:
        if owner.life != my_life or owner.epoch != held:
            return Step.TAKE  # an earlier life's, or the answer to our claim was lost
        return Step.KEEP if proposal in {me, None} else Step.GIVE_UP
    if held is not None:
        return Step.LOSE if owner.epoch > held else Step.KEEP
    lives = living.get(owner.gateway) == owner.life
    return Step.TAKE if proposal == me and not lives else Step.LEAVE


def inherited_doubts(owner: Owner | None) -> tuple[tuple[str, int], ...]:
    """Whose warm slots the next owner has to know the fate of: those that were open, and the owner's own if it died."""
    if owner is None:
        return ()
    doubts = dict(owner.doubts)
    if not owner.free:
        doubts[owner.gateway] = max(owner.life, doubts.get(owner.gateway, 0))
    return tuple(doubts.items())[-MAX_DOUBTS:]
