"""The slot's output on the agent's own standard output, where a container's log is taken from.

It is a copy: a reader that does not read costs lines of the copy, never time of the agent.
"""

from __future__ import annotations

import contextlib
import os

from okiba_runtime.ring import Ring


class EchoingRing(Ring):
    """A ring that also writes what it takes in, as far as the reader keeps up."""

    def __init__(self, capacity: int, descriptor: int = 1) -> None:
        super().__init__(capacity)
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    def append(self, body: bytes, time_ms: int) -> None:
        """As a ring's."""
        super().append(body, time_ms)
        with contextlib.suppress(OSError):  # full, or closed by whoever read it
            os.write(self._descriptor, body)
