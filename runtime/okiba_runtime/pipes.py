"""The descriptors between an agent, its zygote and its worker.

    link      agent ↔ zygote   one byte down, to have the worker forked; `ready WHAT`, `forked PID`,
                               `exited STATUS PEAK_KB` up
    control   agent → worker   the order, then data connections, as descriptors
    log       agent ← worker   standard output and error
    notices   agent ← worker   see notices.py

A pipe's writing end blocks, its reading end (the agent's) does not.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, fields

from okiba_runtime.system import moved_high, widen_pipe

# A worker that prints goes on between two looks of its agent, 20 ms apart, up to 50 MB/s.
LOG_PIPE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkerEnds:
    """The ends of the zygote and of the worker; `link` is the zygote's alone."""

    link: int
    control: int
    log: int
    notices: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Them all."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def close(self) -> None:
        """Closes them all."""
        for descriptor in self.descriptors:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class AgentEnds:
    """The agent's ends."""

    link: socket.socket
    control: socket.socket
    log: int
    notices: int

    def close(self) -> None:
        """Closes them all."""
        self.link.close()
        self.control.close()
        os.close(self.log)
        os.close(self.notices)


def connected() -> tuple[AgentEnds, WorkerEnds]:
    """Both sides' ends, the worker's under high numbers."""
    link, zygote_link = socket.socketpair()
    control, worker_control = socket.socketpair()
    log, worker_log = os.pipe()
    notices, worker_notices = os.pipe()
    widen_pipe(log, LOG_PIPE_BYTES)
    os.set_blocking(log, False)
    os.set_blocking(notices, False)
    control.setblocking(False)
    theirs = (zygote_link.detach(), worker_control.detach(), worker_log, worker_notices)
    return AgentEnds(link, control, log, notices), WorkerEnds(*map(moved_high, theirs))
