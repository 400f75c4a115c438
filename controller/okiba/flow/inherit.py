"""What a function's former owner leaves behind: slots that may run something, and warm ones that may have become more.

Bookkeeping without I/O: `flow.scale` counts slots by it, `flow.dispatch` waits with inherited work for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

Life = tuple[str, int]
"""A gateway's name, and which of its lives."""


class Inheritance:
    """What is known of one function's inherited slots.

    Attributes:
        running: Request ids that they still run.
        settled: Set once of every one of them it is known what runs in it.
    """

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.settled = asyncio.Event()
        self._unknown = 1  # there may be more, until `complete`

    def expect(self) -> None:
        """One more thing has to be known first."""
        self._unknown += 1

    def known(self) -> None:
        """One of them is."""
        self._unknown -= 1
        if self._unknown == 0:
            self.settled.set()

    def complete(self) -> None:
        """Everything that is expected has been named."""
        self.known()


class Doubts:
    """Warm slots of dead gateways that may have been specialised for functions they owned, until they are gone.

    Attributes:
        open: Per life: ids of those slots; None while it is not known which.
    """

    def __init__(self) -> None:
        self.open: dict[Life, set[str] | None] = {}

    def raised(self, life: Life) -> bool:
        """A gateway was found dead; True when that is news."""
        if life in self.open:
            return False
        self.open[life] = None
        return True

    def answered(self, life: Life, slots: Collection[str]) -> bool:
        """These of its slots have not ended yet; True if that settles it."""
        if life not in self.open:
            return False
        self.open[life] = set(slots)
        return self._settled(life)

    def gone(self, slot_id: str) -> list[Life]:
        """A slot has ended; the lives of which nothing is in doubt any more."""
        concerned = [life for life, slots in self.open.items() if slots and slot_id in slots]
        for life in concerned:
            (self.open[life] or set()).discard(slot_id)
        return [life for life in concerned if self._settled(life)]

    def count(self, lives: Collection[Life]) -> int | None:
        """How many slots the function may have that nobody has seen; None while that is not known."""
        suspects: set[str] = set()
        for life in lives:
            slots = self.open.get(life, set())
            if slots is None:
                return None
            suspects |= slots
        return len(suspects)

    def _settled(self, life: Life) -> bool:
        if self.open[life]:
            return False
        del self.open[life]
        return True
