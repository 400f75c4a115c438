"""How a slot's zygote comes into being: forked by the agent, through a nest where it gets namespaces of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from okiba_runtime import isolation, system
from okiba_runtime.options import Options
from okiba_runtime.pipes import AgentEnds, WorkerEnds, connected
from okiba_runtime.zygote import Zygote

# Making namespaces takes a millisecond; a machine that needs longer than this is not going to serve calls.
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


def zygote_of(options: Options, foreign: list[int]) -> Birth:
    """Forks a zygote, isolated where asked for and allowed.

    Args:
        foreign: Descriptors of the agent's that the zygote must not hold.

    Raises:
        StillBorn: It ended before it was ready.
    """
    if options.private_tmp:
        try:
            return _awaited(options, foreign, _nest)
        except StillBorn:  # the system took our identity and gave no other: without namespaces, then
            pass
    return _awaited(options, foreign, _plain)


def _awaited(options: Options, foreign: list[int], start: Callable[[Options, WorkerEnds], NoReturn]) -> Birth:
    ours, theirs = connected()
    first = os.fork()
    if first == 0:
        _in_child(lambda: _close(ours, foreign), lambda: start(options, theirs))
    theirs.close()
    try:
        pid, own = _hear(ours)
    except StillBorn:
        os.waitpid(first, 0)
        ours.close()
        raise
    if pid:
        os.waitpid(first, 0)
    return Birth(pid or first, ours, own)


def _hear(ours: AgentEnds) -> tuple[int, tuple[str, ...]]:
    """The zygote's pid when a nest had to tell it, else 0, and what it has of its own."""
    ours.link.settimeout(_PATIENCE_S)
    heard = b""
    while True:
        heard += _more(ours)
        told = dict(line.split(" ") for line in heard.decode().split("\n")[:-1])
        own = told.get("ready")
        if own == "none":
            return 0, ()
        if own and "born" in told:  # nest and zygote say so in either order
            return int(told["born"]), tuple(own.split(","))


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


def _plain(options: Options, ends: WorkerEnds) -> NoReturn:
    system.adopt_orphans()
    Zygote(ends, [], isolation.NO_OLD_TMP, options.preload_path).run()


def _nest(options: Options, ends: WorkerEnds) -> NoReturn:
    if not isolation.leave_namespaces():
        _plain(options, ends)
    pid = os.fork()
    if pid:
        os.write(ends.link, f"born {pid}\n".encode())
        os._exit(0)
    own, old_tmp = isolation.settle(options.preload_path)
    Zygote(ends, own, old_tmp, options.preload_path).run()


def _in_child(*steps: Callable[[], None]) -> NoReturn:
    try:
        for step in steps:
            step()
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(70)
