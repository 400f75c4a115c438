"""The program: an agent, a nursery of agents, or (started by a zygote) a worker.

Started as a file, so that a bare interpreter can run it: `python -I -S -X utf8 …/okiba_runtime/__main__.py --listen …`
(or `python -m okiba_runtime`). `-S` keeps the platform's own packages off functions' sys.path, `-I` its environment
out of the interpreter; both also make starting four times as cheap.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from okiba_runtime.options import Options
    from okiba_runtime.slot import Slot


def main(words: list[str]) -> int:
    """Runs what the command line asks for; returns the exit status."""
    _find_package()
    if words[:1] == ["--worker"]:
        from okiba_runtime import zygote

        zygote.afresh(words[1])
    from okiba_runtime import options

    try:
        chosen = options.parse(words, os.environ)
    except options.UsageError as error:
        sys.stderr.write(f"{error}\n{options.USAGE}\n")
        return 2
    return _serve(chosen)


def _find_package() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == here:  # put there for a program's file, unless -I is given
        del sys.path[0]
    root = os.path.dirname(here)
    if root not in sys.path:
        sys.path.insert(0, root)


def _serve(options: Options) -> int:
    from okiba_runtime import isolation
    from okiba_runtime.agent import Agent
    from okiba_runtime.nursery import Nursery
    from okiba_runtime.preload import preload

    if options.nursery < 0:
        _end_when_told()
    reason = preload(options.preload, options.preload_path)
    if reason:
        _start_again(options.without_preload(reason))
    if options.nursery >= 0:
        Nursery(options).run()
        return 0
    means = isolation.means() if options.private_tmp else isolation.Means.NONE
    agent = Agent(options, means, [])
    agent.run(lambda: print("ready", flush=True))  # noqa: T201 - the supervisor waits for this line
    return _exit_status(agent.slot)


def _exit_status(slot: Slot) -> int:
    """How a container shows its slot's end: 0 for one that was asked for, else 1, and the report as its message."""
    if slot.ending is None or slot.ending.reason == "shutdown":
        return 0
    try:
        message = os.open("/dev/termination-log", os.O_WRONLY | os.O_TRUNC)
    except OSError:  # no container's
        return 1
    os.write(message, slot.ending.report_json(slot.peak_kb, slot.last_request_id))
    return 1


def _end_when_told() -> None:
    """Until the agent hears signals itself: process 1 of a container hears none but those it asks for."""
    import signal

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))


def _start_again(words: list[str]) -> None:
    """The same process, from the beginning: threads end, and only what we were given stays open."""
    import signal

    # What is sent meanwhile stays pending, also over the exec, until `_end_when_told`.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    program = os.path.abspath(__file__)
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-X", "utf8", program, *words])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
