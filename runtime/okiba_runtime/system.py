"""Linux calls that Python 3.10's `os` lacks, and descriptors moved out of handlers' way."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

F_SETPIPE_SZ = 1031

_TCP_ESTABLISHED = 1

# Above what a handler that closes "all" descriptors in a small loop reaches, below the usual soft limit of 1,024.
_HIGH = 200

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(signal_number: int) -> None:
    """This process gets the signal when the process that forked it ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0))


def adopt_orphans() -> None:
    """Descendants whose parents end become children of this process, not of init."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def unshare(flags: int) -> None:
    """This process (or, for CLONE_NEWPID, its children) leaves the named namespaces for new ones."""
    _checked(_libc.unshare(flags))


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """What `source` names appears at `target`; the arguments are the system call's."""
    words = (source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _checked(_libc.mount(*words))


def moved_high(descriptor: int) -> int:
    """The same open file under a high number, closed on exec; the old number is free again."""
    try:
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # the limit on open files is lower than that
        return descriptor
    os.close(descriptor)
    return high


def become_nobodys(*kept: int) -> None:
    """A process just forked by an agent holds and obeys nothing of the agent's any more, and ends with it.

    Args:
        kept: Descriptors that stay open, beside the three standard ones.
    """
    die_with_parent(signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):  # the listing's own is gone already
                os.close(descriptor)


def is_connected(connection: socket.socket) -> bool:
    """Whether the other side has ended neither itself nor the connection; also once nothing is read here any more."""
    if connection.family == socket.AF_UNIX:
        poll = select.poll()
        poll.register(connection, 0)  # hang-ups and errors are told without being asked for
        return not poll.poll(0)
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_ESTABLISHED


def widen_pipe(descriptor: int, size: int) -> None:
    """Asks for a larger pipe buffer; an unprivileged user may have used up his share, and then 64 KiB must do."""
    try:
        fcntl.fcntl(descriptor, F_SETPIPE_SZ, size)
    except OSError:
        return
