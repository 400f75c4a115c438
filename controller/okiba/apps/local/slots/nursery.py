"""The process that slots of one kind are forked from, as the controller holds it.

Starting an interpreter and importing a layer takes tenths of a second, a fork of one that has done so milliseconds, and
what was imported lies in memory once for all slots. The nursery ends with the controller that started it; slots do
not (`runtime/okiba_runtime/nursery.py` has the messages).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from okiba.apps.local.processes import DeathWatch, keep_small, start_time
from okiba.apps.local.slots import cgroups, priority
from okiba.apps.local.slots.process import preload_dropped
from okiba.apps.local.slots.records import SlotRecord
from okiba.core.errors import PlatformError, SlotLost
from okiba.ports import SlotAddress

READY_S: Final = 60.0
"""How long importing may take, of a large layer from a cold disk."""

BIRTH_S: Final = 20.0
"""How long a slot may take from wish to readiness; milliseconds, unless the machine is out of breath."""


END_S: Final = 2.0
"""How long a nursery without births may take to end."""


@dataclass(frozen=True, slots=True)
class Pedigree:
    """What makes the slots of a nursery alike.

    Args:
        interpreter: The Python that runs agents, and later functions.
        import_path: Folders that the modules to preload come from.
        preload: Modules that are imported before the first fork.
    """

    kind: str
    interpreter: Path
    import_path: tuple[Path, ...] = ()
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ground:
    """What all nurseries of a controller stand on.

    Args:
        runtime: A folder that holds the package `okiba_runtime` (`runtime_folder`).
        sockets: Where agents listen.
        log: What agents say of themselves.
        lifeline: Descriptor that slots inherit; 0 for none.
        groups: Where slots get memory cgroups; None where none can be made.
    """

    runtime: Path
    sockets: Path
    log: Path
    lifeline: int
    groups: cgroups.Root | None


class Nursery:
    """Starts when it is made; `until_ready`, then asked for slots until it is closed.

    Raises:
        PlatformError: The system does not let another process be started.
    """

    def __init__(self, pedigree: Pedigree, ground: Ground) -> None:
        self.pedigree = pedigree
        self.dead = False
        self._ground = ground
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            self._popen = _started(pedigree, ground, theirs.fileno())
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._births: dict[str, asyncio.Future[int]] = {}
        self._ended = asyncio.Event()
        self._closing = False
        self._dropped: str | None = None if pedigree.preload else ""
        self._listener = asyncio.create_task(self._listen())
        self._watch = DeathWatch(self._popen.pid, self._died)

    async def until_ready(self, *, urgent: bool) -> None:
        """Waits until it has imported everything.

        Raises:
            SlotLost: It ended, or was not ready in time.
        """
        self._pace(urgent)
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.shield(self._ready)
        except TimeoutError as error:
            self._popen.kill()
            raise SlotLost(f"the nursery of {self.pedigree.kind} was not ready within {READY_S:g} s") from error

    async def slot(self, slot_id: str, *, urgent: bool) -> SlotRecord:
        """A new slot's record; its agent listens.

        Raises:
            SlotLost: It could not be made.
        """
        group = self._ground.groups.group(slot_id) if self._ground.groups else None
        address = SlotAddress(slot_id, self.pedigree.kind, f"unix:{self._ground.sockets / slot_id}")
        self._pace(urgent)
        try:
            pid = await self._born(address.address, str(group or ""))
        except SlotLost:
            if group:
                cgroups.remove_group(group)
            raise
        priority.restore(pid)
        if self._dropped is None:
            self._dropped = await preload_dropped(address.address)
        modules = ",".join(self.pedigree.preload)
        return SlotRecord(address, pid, start_time(pid) or 0, str(group or ""), modules, self._dropped)

    def close(self) -> None:
        """Ends it once the slots that are being born are; its slots go on."""
        self._closing = True
        if not self._births:
            self._listener.cancel()
            self._socket.close()

    async def end(self) -> None:
        """Closes it and waits until it has ended."""
        self.close()
        try:
            await asyncio.wait_for(self._ended.wait(), END_S)
        except TimeoutError:
            self._popen.kill()
            await self._ended.wait()

    def hurry(self) -> None:
        """Somebody waits: what it imports and what it bears does not give way to others any more."""
        priority.hurry(self._popen.pid)

    def _pace(self, urgent: bool) -> None:
        """Slots inherit how urgent their nursery is."""
        if urgent:
            self.hurry()
        else:
            priority.lower(self._popen.pid)

    async def _born(self, listen: str, group: str) -> int:
        """The process id of a new agent."""
        if self.dead or self._closing:
            raise SlotLost(f"the nursery of {self.pedigree.kind} has ended")
        birth: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._births[listen] = birth
        wish = {"listen": listen, "private_tmp": True, "cgroup": group}
        try:
            async with asyncio.timeout(BIRTH_S):
                await asyncio.get_running_loop().sock_sendall(self._socket, json.dumps(wish).encode() + b"\n")
                return await birth
        except (TimeoutError, OSError) as error:
            raise SlotLost(f"a slot of {self.pedigree.kind} was not born: {error!r}") from error
        finally:
            del self._births[listen]
            if self._closing:
                self.close()

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=self._socket.dup())
        try:
            while line := await reader.readline():
                self._heard(json.loads(line))
        finally:
            writer.close()

    def _heard(self, message: dict[str, object]) -> None:
        if "ready" in message and not self._ready.done():
            self._ready.set_result(None)
        if "listen" not in message:
            return
        birth, pid = self._births.get(str(message["listen"])), message.get("pid")
        if birth is not None and not birth.done():
            if isinstance(pid, int):
                birth.set_result(pid)
            else:
                birth.set_exception(SlotLost(f"a slot could not start: {message.get('error')}"))
        elif isinstance(pid, int):  # born too late: nobody knows of it
            os.kill(pid, signal.SIGTERM)

    def _died(self) -> None:
        self.dead = True
        self._ended.set()
        code = self._popen.wait()
        error = SlotLost(f"the nursery of {self.pedigree.kind} ended with code {code}; slots.log may say why")
        futures: list[asyncio.Future[Any]] = [self._ready, *self._births.values()]
        for waiting in futures:
            if not waiting.done():
                waiting.set_exception(error)
        self._ready.exception()  # nobody may be waiting any more


def runtime_folder(state_dir: Path) -> Path:
    """A folder that holds the runtime's package and nothing else, whichever way it is installed.

    Agents import themselves from there. The folder that the package really lies in may be this environment's whole
    site-packages, which is none of a function's business.

    Raises:
        PlatformError: The package is not installed.
    """
    spec = importlib.util.find_spec("okiba_runtime")
    if spec is None or not spec.submodule_search_locations:
        raise PlatformError("the package okiba_runtime is not installed beside okiba; run `make setup`")
    folder = state_dir / "runtime"
    folder.mkdir(exist_ok=True)
    fresh = folder / "fresh"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path(spec.submodule_search_locations[0]).resolve(), target_is_directory=True)
    fresh.replace(folder / "okiba_runtime")
    return folder


def _started(pedigree: Pedigree, ground: Ground, nursery_end: int) -> subprocess.Popen[bytes]:
    program = ground.runtime / "okiba_runtime" / "__main__.py"
    command = [str(pedigree.interpreter), "-I", "-S", "-X", "utf8", str(program), "--nursery", str(nursery_end)]
    inherited = [nursery_end]
    if ground.lifeline:
        command += ["--lifeline", str(ground.lifeline)]
        inherited.append(ground.lifeline)
    if pedigree.preload:
        command += ["--preload", ",".join(pedigree.preload)]
        for folder in pedigree.import_path:
            command += ["--preload-path", str(folder)]
    keep_small(ground.log)
    try:
        with ground.log.open("ab") as output:
            return subprocess.Popen(
                command,
                env={"PATH": os.environ.get("PATH", os.defpath)},  # what an agent has, a function could come to see
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,
                pass_fds=inherited,
            )
    except OSError as error:
        raise PlatformError(f"no process for slots could be started: {error}") from error


def new_slot_id() -> str:
    """Sorts by the time of its making; unique for ever."""
    return f"{time.time_ns() // 1_000_000:x}{secrets.token_hex(4)}"
