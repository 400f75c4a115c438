"""One slot as processes of this machine: watched through its agent's descriptor, ended by asking, then by force."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

from okiba import wire
from okiba.adapters.slot_http import connect
from okiba.apps.local.processes import DeathWatch
from okiba.apps.local.slots.records import SlotRecord, forget, kill, write_record
from okiba.core.errors import PlatformError, SlotLost

LAST_WORDS_S: Final = 0.5
"""Between a slot's retirement and its end: the gateway still reads its last log lines (it asks 4 times a second)."""

END_S: Final = 2.0
"""How long an agent may take to end its slot when it is asked to, or to answer."""


class LocalSlot:
    """A slot that runs here, made by this controller or adopted.

    Args:
        folder: Where slots' records are; this slot's is written now and removed when it has ended.
        on_death: Called once, when the agent has ended.

    Raises:
        SlotLost: It has ended already.
    """

    def __init__(self, record: SlotRecord, folder: Path, on_death: Callable[[LocalSlot], None]) -> None:
        self.record = record
        self.ending = False
        self._folder = folder
        self._on_death = on_death
        self._dead = asyncio.Event()
        if not record.alive:
            forget(folder, record)
            raise SlotLost(f"slot {self.id} has ended")
        self._watch = DeathWatch(record.pid, self._died)
        write_record(folder, record)

    @property
    def id(self) -> str:
        """Unique for ever."""
        return self.record.address.id

    @property
    def kind(self) -> str:
        """The pool that it was made for."""
        return self.record.address.kind

    @property
    def warm(self) -> bool:
        """Nobody's yet."""
        return not self.record.address.function

    @property
    def dead(self) -> bool:
        """Its agent has ended."""
        return self._dead.is_set()

    def take(self, function: str, revision: str) -> None:
        """Notes whose the slot has become, for a controller that comes after this one."""
        if (function, revision) != (self.record.address.function, self.record.address.revision):
            self.record = self.record.taken_by(function, revision)
            write_record(self._folder, self.record)

    async def end(self, after_s: float = 0.0) -> None:
        """Ends it and all its processes."""
        self.ending = True
        await self._await_death(after_s)
        if not self.dead and self.record.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.record.pid, signal.SIGTERM)
        await self._await_death(END_S)
        if not self.dead:
            kill(self.record)

    async def shut_down_if_warm(self) -> bool:
        """Asks the agent to end; False when a function has been put into it: the agent decides which came first."""
        return await shut_down_if_warm(self.record.address.address)

    def let_go(self) -> None:
        """Nothing is watched or told any more; the slot goes on."""
        self._watch.close()

    async def _await_death(self, patience_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._dead.wait(), patience_s)

    def _died(self) -> None:
        kill(self.record)  # a zygote without its agent
        forget(self._folder, self.record)
        self._dead.set()
        self._on_death(self)


async def shut_down_if_warm(address: str) -> bool:
    """Ends a slot that is nobody's yet; False when it has become somebody's, or its agent is silent."""
    try:
        connection = await connect(address)
        answer = await connection.ask(wire.shutdown_request(""), END_S)
        connection.close()
    except SlotLost:
        return True  # it ended before it could answer
    except TimeoutError:
        return False
    return answer.status == 200


async def shut_down_unrecorded(socket: Path) -> None:
    """Ends what listens there, and removes the socket."""
    await shut_down_if_warm(f"unix:{socket}")
    socket.unlink(missing_ok=True)


async def preload_dropped(address: str) -> str:
    """Why the agent's nursery gave preloading up; empty when it did not."""
    try:
        connection = await connect(address)
        answer = await connection.ask(wire.telemetry_request("", 0, 0), END_S)
        connection.close()
    except (PlatformError, TimeoutError):
        return ""
    return answer.text(b"okiba-preload-dropped")
