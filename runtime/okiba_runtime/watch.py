"""Takes in what a worker writes, its notices and its output, without waking up for each invocation.

The first notice wakes the agent, and from then on it looks every 20 ms until a look finds nothing new: nothing that
lasts is noticed later than that. Where look after look finds that no invocation lasted from one to the next, a look
every 100 ms will do: 32 workers that are called all the time took a quarter of a core to look at. An idle worker costs
nothing. Only one that prints faster than its pipe can hold until the next look is read as it writes.
"""

from __future__ import annotations

import os
import selectors
import time

from okiba_runtime.pipes import LOG_PIPE_BYTES, AgentEnds
from okiba_runtime.ring import Ring
from okiba_runtime.slot import Running, Slot

_LOOK_US = 20_000
_CALM_LOOK_US = 100_000

# So many looks in a row at which nothing ran that had run at the one before.
_CALM_AFTER = 5

_LONGEST_NOTICE = 64 * 1024

# At most so much output is taken in one look, so that a worker that prints without end starves nobody else.
_MOST_PER_LOOK = 4 * LOG_PIPE_BYTES


class Watch:
    """An agent's eye on its worker's pipes."""

    def __init__(self, selector: selectors.BaseSelector, ends: AgentEnds, slot: Slot, ring: Ring) -> None:
        self._selector, self._ends, self._slot, self._ring = selector, ends, slot, ring
        self._half_notice = b""
        self._waked_by_pipes = False
        self._calm = 0
        self._ran: Running | None = None
        self.next_us: int | None = None
        """When to look again; None while the pipes themselves wake the agent."""
        self.looks = 0
        """Looks so far."""
        self._wake_by_pipes(True)

    def look(self) -> None:
        """Takes in everything that the worker has written so far."""
        self.looks += 1
        told = self._read_notices()
        printed = self._read_log()
        flooded = printed >= LOG_PIPE_BYTES // 2
        if (told or printed or self._slot.running) and not flooded:
            self._wake_by_pipes(False)
            self.next_us = time.monotonic_ns() // 1000 + self._pause_us()
        else:
            self._calm = 0
            self._wake_by_pipes(True)
            self.next_us = None

    def _pause_us(self) -> int:
        """How long until the next look."""
        running = self._slot.running
        self._calm = 0 if running and running is self._ran else self._calm + 1
        self._ran = running
        return _CALM_LOOK_US if self._calm > _CALM_AFTER else _LOOK_US

    def end(self) -> None:
        """Looks a last time; the worker is gone."""
        self.look()
        self._wake_by_pipes(False)
        self.next_us = None

    def _wake_by_pipes(self, on: bool) -> None:
        if on == self._waked_by_pipes:
            return
        self._waked_by_pipes = on
        for pipe in (self._ends.log, self._ends.notices):
            if on:
                self._selector.register(pipe, selectors.EVENT_READ, lambda _events: self.look())
            else:
                self._selector.unregister(pipe)

    def _read_notices(self) -> bool:
        body = _drained(self._ends.notices, _MOST_PER_LOOK)
        *lines, rest = (self._half_notice + body).split(b"\n")
        # A handler that writes into this pipe can end its own slot; it must not fill its agent's memory.
        self._half_notice = rest if len(rest) <= _LONGEST_NOTICE else b""
        self._slot.note_all(lines)
        return bool(body)

    def _read_log(self) -> int:
        before = self._ring.end
        while self._ring.end - before < _MOST_PER_LOOK and (piece := _drained(self._ends.log, LOG_PIPE_BYTES)):
            self._ring.append(piece, int(time.time() * 1000))
        return self._ring.end - before


def _drained(descriptor: int, limit: int) -> bytes:
    try:
        return os.read(descriptor, limit)
    except BlockingIOError:
        return b""
