"""The cluster's processes: started in a group of their own, remembered by pid and start time, ended by those.

A record outlives whoever started the process: `down` reads it in another process, `restart` starts the same again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.cluster.layout import LOGS, PROCESSES
from tests.cluster.parts import cgroups

INTO_GROUP = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
"""A shell's program: enters the group, then becomes the command."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process of the cluster that has been started.

    Args:
        started: Clock ticks after the machine's start: a pid alone may have gone to somebody else.
        group: The freezer group that it and its children are in.
    """

    name: str
    pid: int
    started: int
    group: str
    command: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Whether it still does."""
        return start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Sends it a signal, should it still run."""
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start(name: str, command: Sequence[str], group: str) -> Service:
    """Starts a command that goes on without us; its output goes to the log of its name."""
    (cgroups.FREEZER / group).mkdir(parents=True, exist_ok=True)
    PROCESSES.mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    output = str(log(name))
    pid = os.posix_spawnp(
        "sh",
        ["sh", "-c", INTO_GROUP, str(cgroups.FREEZER / group), *command],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    service = Service(name, pid, start_time(pid) or 0, group, tuple(command))
    _record(name).write_text(json.dumps(asdict(service)))
    return service


def recorded(name: str) -> Service | None:
    """The process of this name, running or not; None when none was started."""
    try:
        record = json.loads(_record(name).read_text())
    except FileNotFoundError:
        return None
    return Service(**{**record, "command": tuple(record["command"])})


def all_recorded() -> list[Service]:
    """Every process that was started, running or not."""
    found = (recorded(path.stem) for path in sorted(PROCESSES.glob("*.json")))
    return [service for service in found if service]


def end(name: str) -> None:
    """Ends it at once, as a machine that loses power does."""
    if service := recorded(name):
        service.signal(signal.SIGCONT)
        service.signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(service.pid, 0)


def restart(name: str) -> Service:
    """Starts it again with the command it had."""
    service = recorded(name)
    assert service, f"no process named {name} was ever started"
    return start(name, service.command, service.group)


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks after the machine did; None when there is none, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def log(name: str) -> Path:
    """Where its output goes."""
    return LOGS / f"{name}.log"


def _record(name: str) -> Path:
    return PROCESSES / f"{name}.json"
