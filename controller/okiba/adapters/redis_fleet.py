"""Where the leading controller deals slots, for gateways that come and go.

okiba:fleet         string: JSON {"address", "epoch", "at_ms"}, told anew every second by the leader
okiba:fleet:epoch   integer: incremented at each gain of leadership; a lower epoch's leader is a former one
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from okiba.adapters.redis_link import RedisLink
from okiba.core.errors import NotLeading

FLEET: Final = "okiba:fleet"
EPOCH: Final = "okiba:fleet:epoch"

TELL_S: Final = 1.0
KEPT_MS: Final = 60_000
"""A record that nobody has renewed for so long is of no more use to anybody."""


@dataclass(frozen=True, slots=True)
class FleetRecord:
    """The leader's word.

    Args:
        address: `tcp:host:port` of its fleet link.
        at_ms: Its wall clock.
    """

    address: str
    epoch: int
    at_ms: int


class RedisFleet:
    """Written by the leader, read by gateways."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def next_epoch(self) -> int:
        """A new leader's epoch, higher than every earlier one's."""
        return int(await self._link.call("INCR", EPOCH))

    async def tell(self, record: FleetRecord) -> None:
        """Gateways find this leader.

        Raises:
            NotLeading: A later one has told.
            StoreUnavailable: Redis is away.
        """
        arguments = (record.epoch, json.dumps(asdict(record)), KEPT_MS)
        if not await self._link.script("fleet_tell", [FLEET], arguments):
            raise NotLeading(f"a controller with a later epoch than {record.epoch} deals slots")

    async def read(self) -> FleetRecord | None:
        """Where the leader is; None while nobody leads."""
        record = await self._link.call("GET", FLEET)
        return FleetRecord(**json.loads(record)) if record is not None else None
