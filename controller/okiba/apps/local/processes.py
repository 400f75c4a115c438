"""One process: started so that it cannot outlive this one, watched by its descriptor, ended in two steps."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG: Final = 1

LOG_BYTES: Final = 10 * 1024 * 1024
"""A component's log file is cut at this size; the part before it is kept once, as NAME.log.1."""

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this child as soon as the thread that started it has ended."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; with its id it names a process for ever. None: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def keep_small(path: Path) -> None:
    """Cuts a log that has grown too large; its writers append, so they go on at the new end.

    Where that cannot be (a full disk), the log stays as it is: nothing ends over it.
    """
    try:
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.with_suffix(".log.1").write_bytes(path.read_bytes())
            os.truncate(path, 0)
    except OSError as error:
        log.warning("a log cannot be cut", extra={"log": str(path), "error": str(error)})


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for a message."""
    lines = log.read_bytes()[-4096:].decode(errors="replace").splitlines() if log.exists() else []
    return "\n".join([line for line in lines if line.strip()][-count:]) or "(no output)"


class DeathWatch:
    """Says once when a process has ended, whether it is a child of this one or not (needs a running event loop)."""

    def __init__(self, pid: int, on_death: Callable[[], None]) -> None:
        self._on_death = on_death
        loop = asyncio.get_running_loop()
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._descriptor = -1
            loop.call_soon(on_death)
        else:
            loop.add_reader(self._descriptor, self._died)

    def close(self) -> None:
        """Stops watching; harmless afterwards."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _died(self) -> None:
        self.close()
        self._on_death()


@dataclass(frozen=True, slots=True)
class Command:
    """How a process is started.

    Args:
        inherits: Descriptors that it gets, under the same numbers.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    inherits: tuple[int, ...] = ()


class Process:
    """A running process in a group of its own, so that Ctrl-C on the terminal reaches the supervisor alone."""

    def __init__(self, command: Command, log: Path) -> None:
        keep_small(log)
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command.arguments,
                env=dict(command.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=command.inherits,
                preexec_fn=die_with_parent,  # holds for the thread that forks: here always the main one
            )
        self._ended = asyncio.Event()
        try:
            self._watch = DeathWatch(self._popen.pid, self._died)
        except OSError:
            self._died()  # what cannot be watched must not run
            raise

    @property
    def pid(self) -> int:
        """Its id; the group has the same."""
        return self._popen.pid

    async def ended(self) -> str:
        """Waits for its end and says how it was."""
        await self._ended.wait()
        code = self._popen.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    async def stop(self, patience_s: float) -> None:
        """Asks it to end, and ends it when it has not done so in time."""
        if not self._ended.is_set():
            self._popen.terminate()
        try:
            await asyncio.wait_for(self._ended.wait(), patience_s)
        except TimeoutError:
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """Ends it, and all that it has started in its group, now."""
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _died(self) -> None:
        self.kill()  # what it had started has lost its reason; the group keeps the id from being used anew until now
        self._popen.wait()
        self._ended.set()
