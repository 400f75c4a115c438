"""Who fetches: the waiting worker for the order that is to be its own, a process made for it for everything else.

    order      agent ──▶ worker, which waits for it anyway: fetches, and goes on to import the handler
                           └─fork─▶ one process more for each part but the first, so that they come at once
    preload    agent ──fork──▶ a process that does the same, and ends

A worker fetches 1 KB of code in 4 ms, half of them the store's. A process forked for it took 8, for it copies pages
as it touches them, and as long again to be made and end; a thread would cost the agent its one, needed for forking.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from okiba_runtime import fetcher, processes, system
from okiba_runtime.parts import Part

# How long after the time allowed a process may take to say so itself; then it hangs in a name service or on a disk.
HANGING_US = 500_000

Error = dict[str, str]
"""`errorType` and `errorMessage`; empty when there is none."""


def all_fetched(parts: Sequence[Part], limit_ms: int) -> Error:
    """Fetches what is not there yet; returns the first error."""
    missing = [part for part in parts if not os.path.isdir(part.folder)]
    errands = [Errand([part], limit_ms) for part in missing[1:]]
    error = fetcher.fetched(missing[0], limit_ms) if missing else {}
    for errand in errands:
        error = error or errand.result()
        errand.kill()
        errand.await_end()
    return error


def failed(why: str) -> Error:
    """The error of a part that could not be had."""
    return {"errorType": "Okiba.FetchFailed", "errorMessage": why}


class Errand:
    """A process that fetches parts; it says how that went on `pipe`, one JSON object, and ends."""

    def __init__(self, parts: Sequence[Part], limit_ms: int) -> None:
        self.pipe, their_pipe = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _be_errand(parts, limit_ms, their_pipe)
        os.close(their_pipe)

    def result(self) -> Error:
        """The first error; waits for the process."""
        said = b""
        while piece := os.read(self.pipe, 65536):
            said += piece
        try:
            return dict(json.loads(said))
        except ValueError:
            return failed("the process that fetched was killed")

    def kill(self) -> None:
        """It ends, whatever it was about."""
        processes.end_all([self._pid])

    def await_end(self) -> None:
        """It is gone when this returns; for a process that does not reap its children otherwise."""
        os.close(self.pipe)
        os.waitpid(self._pid, 0)


class Fetching:
    """Parts on their way while an agent has other things to do.

    Args:
        then: Told once: the first error, an empty one when every folder is there.
    """

    def __init__(
        self, selector: selectors.BaseSelector, parts: Sequence[Part], limit_ms: int, then: Callable[[Error], None]
    ) -> None:
        self._selector, self._limit_ms, self._then = selector, limit_ms, then
        self.until_us = time.monotonic_ns() // 1000 + limit_ms * 1000 + HANGING_US
        self._errand = Errand(parts, limit_ms)
        selector.register(self._errand.pipe, selectors.EVENT_READ, lambda _events: self._hear())

    def expire(self, now_us: int) -> None:
        """Gives up what is overdue."""
        if now_us >= self.until_us:
            self.cancel()
            self._then(failed(f"not fetched within {self._limit_ms} ms"))

    def cancel(self) -> None:
        """Ends without telling anyone."""
        self._errand.kill()
        self._let_go()

    def _hear(self) -> None:
        error = self._errand.result()  # the process ends behind its only line: nobody waits here
        self._let_go()
        self._then(error)

    def _let_go(self) -> None:
        self._selector.unregister(self._errand.pipe)
        os.close(self._errand.pipe)


def _be_errand(parts: Sequence[Part], limit_ms: int, pipe: int) -> NoReturn:
    try:
        system.become_nobodys(pipe)
        os.write(pipe, json.dumps(all_fetched(parts, limit_ms)).encode())
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)
