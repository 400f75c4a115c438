"""How a slot's zygote comes into being: forked by the agent, into namespaces of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from okiba_runtime import isolation, system
from okiba_runtime.isolation import Means
from okiba_runtime.options import Options
from okiba_runtime.pipes import AgentEnds, WorkerEnds, connected
from okiba_runtime.zygote import Zygote

# Making namespaces takes milliseconds; a machine that needs longer than this is not going to serve calls.
_PATIENCE_S = 20.0


class StillBorn(RuntimeError):
    """The zygote ended before it was ready."""


@dataclass(frozen=True, slots=True)
class Birth:
    """A zygote that is ready.

    Args:
        own: What the slot has of its own: `tmp`, `pid`, `ipc`; nothing where namespaces are not allowed.
    """

    pid: int
    ends: AgentEnds
    own: tuple[str, ...]


def zygote_of(options: Options, means: Means, foreign: list[int]) -> Birth:
    """Forks a zygote, isolated where asked for and allowed.

    Args:
        foreign: Descriptors of the agent's that the zygote must not hold.

    Raises:
        StillBorn: It ended before it was ready.
    """
    isolated = options.private_tmp and means is not Means.NONE
    if isolated:
        isolation.leave(means)
    ours, theirs = connected()
    pid = os.fork()
    if pid == 0:
        _in_child(lambda: _close(ours, foreign), lambda: _be_zygote(options, theirs, isolated=isolated))
    theirs.close()
    return Birth(pid, ours, _hear(ours))


def _hear(ours: AgentEnds) -> tuple[str, ...]:
    """What the zygote has of its own."""
    ours.link.settimeout(_PATIENCE_S)
    heard = b""
    while not heard.endswith(b"\n"):
        heard += _more(ours)
    own = heard.decode().split()[1]
    return () if own == "none" else tuple(own.split(","))


def _more(ours: AgentEnds) -> bytes:
    try:
        more = ours.link.recv(4096)
    except TimeoutError as error:
        raise StillBorn(f"the zygote was not ready within {_PATIENCE_S} s") from error
    if not more:
        raise StillBorn("the zygote ended before it was ready")
    return more


def _close(ours: AgentEnds, foreign: list[int]) -> None:
    ours.close()
    for descriptor in foreign:
        os.close(descriptor)


def _be_zygote(options: Options, ends: WorkerEnds, *, isolated: bool) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not isolated:
        be_zygote(ends, options.preload_path)
    own, old_tmp = isolation.settle(options.preload_path)
    Zygote(ends, own, old_tmp, options.preload_path).run()


def be_zygote(ends: WorkerEnds, preload_path: tuple[str, ...]) -> NoReturn:
    """This process is a slot's zygote from now on, without namespaces of its own."""
    system.adopt_orphans()
    Zygote(ends, [], isolation.NO_OLD_TMP, preload_path).run()


def _in_child(*steps: Callable[[], None]) -> NoReturn:
    try:
        for step in steps:
            step()
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(70)
