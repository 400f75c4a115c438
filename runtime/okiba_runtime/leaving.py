"""How a specialised slot leaves that was told to: what runs ends, and what it keeps is collected.

    told ──▶ worker: takes no more, ends what runs ──▶ keeps nothing ───────────────────────────▶ gone
                                                   └─▶ keeps outcomes ─┬─ their holder is there ─▶ gone
                                                                       └─ it is not: another one connects, collects

A holder that is connected has read the answers that the outcomes were made of, or could have. One that has just come
is told of them by the greeting; it asks for those it wants at once.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from okiba_runtime import system
from okiba_runtime.slot import Slot

# Kubernetes kills a pod's processes 30 s after it told them; what the slot still has to say takes a part of it.
_GRACE_US = 25_000_000

# A gateway asks for the outcomes that it wants one after the other as soon as it has been greeted: in milliseconds.
_COLLECTING_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the data connection."""

    connection: socket.socket
    since_us: int

    @property
    def is_there(self) -> bool:
        """Whether it has not ended the connection."""
        return system.is_connected(self.connection)

    def stop_listening(self) -> None:
        """Nothing that it sends from now on reaches the worker, which finds the connection ended; answers still go."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)


class Leaving:
    """One slot's way out, from the moment on which it was told to leave.

    Args:
        control: The agent's end; `l` tells the worker to leave, and its end that nobody will collect any more.
    """

    def __init__(self, slot: Slot, control: socket.socket, now_us: int) -> None:
        self._slot, self._control = slot, control
        self._until_us = now_us + _GRACE_US
        self._worker_knows = False
        self.next_us: int | None = None
        """When `go_on` wants to be called though nothing happens."""

    def go_on(self, holder: Holder | None, now_us: int) -> None:
        """Takes the next step, if it is time for it."""
        self.next_us = self._until_us if self._slot.kept else None
        if holder and not holder.is_there:
            holder = None
        if self._slot.kept and holder and now_us < holder.since_us + _COLLECTING_US:
            self.next_us = holder.since_us + _COLLECTING_US
        elif not self._worker_knows:
            self._worker_knows, self._slot.kept = True, 0
            with contextlib.suppress(OSError):  # it has just ended; that is noticed and told in its own way
                self._control.sendall(b"l")
            if holder:
                holder.stop_listening()
        elif self._slot.kept and holder:
            self._control.close()
            holder.stop_listening()

    def overdue(self, now_us: int) -> bool:
        """Whether nobody has collected in time."""
        return bool(self._slot.kept) and now_us >= self._until_us
