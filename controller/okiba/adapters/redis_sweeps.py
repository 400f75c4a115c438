"""Sweeps that are asked for, and how far each bucket's newest one has come; fulfils `flow.repair.SweepBook`.

okiba:sweeps:asked is a hash, bucket → {"existing", "at_ms"}; okiba:sweeps one of bucket → core.sweeping.Progress.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Final, TypeVar

from okiba.adapters.redis_link import RedisLink
from okiba.core.sweeping import Ask, Progress

_T = TypeVar("_T")

ASKED: Final = "okiba:sweeps:asked"
TOLD: Final = "okiba:sweeps"
FOUND: Final = "okiba:sweeps:found"
"""A hash: bucket → how many events all its sweeps have found."""


class RedisSweeps:
    """The gateway asks, the controller answers."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def ask(self, bucket: str, ask: Ask) -> None:
        """The bucket is swept soon; asking again before changes only how."""
        await self._link.call("HSET", ASKED, bucket, _text(ask))

    async def asked(self) -> dict[str, Ask]:
        """By bucket."""
        return await self._read(ASKED, lambda text: Ask(**json.loads(text)))

    async def answered(self, bucket: str, ask: Ask) -> None:
        """That one is done; what was asked since stays."""
        await self._link.script("sweeps_answered", (ASKED,), (bucket, _text(ask)))

    async def tell(self, bucket: str, progress: Progress) -> None:
        """The newest pass over the bucket has come so far."""
        await self._link.call("HSET", TOLD, bucket, _text(progress))

    async def found(self, bucket: str, count: int) -> None:
        """So many events more were found in the bucket."""
        await self._link.call("HINCRBY", FOUND, bucket, count)

    async def found_ever(self) -> dict[str, int]:
        """How many events sweeps have found, by bucket."""
        return await self._read(FOUND, int)

    async def told(self) -> dict[str, Progress]:
        """By bucket."""
        return await self._read(TOLD, lambda text: Progress(**json.loads(text)))

    async def _read(self, key: str, made: Callable[[bytes], _T]) -> dict[str, _T]:
        flat: list[bytes] = await self._link.call("HGETALL", key)
        return {name.decode(): made(text) for name, text in zip(flat[::2], flat[1::2], strict=True)}


def _text(record: Ask | Progress) -> str:
    return json.dumps(asdict(record))
