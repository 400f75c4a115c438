"""Asks Sentinels which server is the primary.

By hand and not by redis-py's Sentinel: it is one question, and what it finds is for connections of our own.
"""

from __future__ import annotations

import random
from typing import Final

from okiba.adapters.redis_address import Address, Place
from okiba.adapters.redis_server import asked
from okiba.core.errors import StoreUnavailable

ANSWER_S: Final = 0.5
"""A Sentinel that takes longer is passed over for the next."""


class Sentinels:
    """The Sentinels of one primary."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._addresses = list(place.addresses)

    async def primary(self) -> Address:
        """Where the primary is, as the first Sentinel says that answers.

        Raises:
            StoreUnavailable: None knows.
        """
        # Another one first each time: one that is cut off from the others would name the former primary for ever.
        random.shuffle(self._addresses)
        reasons = []
        for address in self._addresses:
            try:
                return await self._ask(address)
            except StoreUnavailable as error:
                reasons.append(f"{address.host}:{address.port}: {error}")
        raise StoreUnavailable(f"no Sentinel knows the primary {self._place.primary}: {'; '.join(reasons)}")

    async def _ask(self, sentinel: Address) -> Address:
        told = await asked(sentinel, ANSWER_S, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._place.primary)
        if told is None:
            raise StoreUnavailable("it watches no primary of that name")
        host, port = told
        return self._place.server(host.decode(), int(port))
