"""What the platform's parts last said of themselves, for `okiba status`.

    okiba:conditions     hash: controller | minio | jobs | slots → {"ok", "message", "at_ms"}

A condition that has not been renewed for three of its writer's periods says nothing any more but that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from okiba.adapters.redis_link import RedisLink

KEY: Final = "okiba:conditions"
MAX_MESSAGE: Final = 1_000

PERIODS_S: Final[Mapping[str, float]] = {"controller": 10.0, "minio": 10.0, "jobs": 15.0, "slots": 10.0}
"""How often each part's condition is written."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a part said.

    Args:
        message: What is wrong; empty when nothing is.
        at_ms: Wall clock of when it said so.
    """

    ok: bool
    message: str
    at_ms: int


class RedisConditions:
    """Written by the parts, read by the gateway."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def tell(self, part: str, condition: Condition) -> None:
        """The part's condition is this."""
        await self._link.call("HSET", KEY, part, encoded(condition))

    async def all(self) -> dict[str, Condition]:
        """Every part's last condition."""
        flat: list[bytes] = await self._link.call("HGETALL", KEY)
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return {part.decode(): Condition(**json.loads(text)) for part, text in pairs}


def encoded(condition: Condition) -> str:
    """The condition as it lies in the hash."""
    shortened = Condition(condition.ok, condition.message[:MAX_MESSAGE], condition.at_ms)
    return json.dumps(asdict(shortened))
