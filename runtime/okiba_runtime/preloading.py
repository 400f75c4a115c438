"""`preload`: a warm slot gets a layer and imports its modules, before it is anybody's.

    agent ─┬─ zygote, its worker       serve until the successor is ready, and for good if it never is
           └─ successor                forked from the agent, imports; then it is the zygote

What has been imported cannot be taken back, so a zygote never imports: another one does, and whatever goes wrong in it
(a thread, an open file, a crash, no end) costs the slot nothing.
"""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from okiba_runtime import birth, preload, processes, system
from okiba_runtime.birth import Birth
from okiba_runtime.fetching import Error, Fetching
from okiba_runtime.options import Options
from okiba_runtime.order import BadOrder, import_folders, layers_of, packages_of
from okiba_runtime.parts import Located, Part
from okiba_runtime.pipes import AgentEnds, WorkerEnds, connected

DEFAULT_LIMIT_MS: Final = 60_000

# PROTOCOL.md's limit for Okiba-Preload, which is where the names come from.
_MAX_NAMES = 12 * 1024


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be imported ahead; two that are equal have equal results.

    Args:
        layers: Folders laid out as Lambda's /opt.
        packages: Folders behind them on sys.path.
    """

    layers: tuple[str, ...]
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    parts: tuple[Part, ...]
    limit_ms: int

    @property
    def key(self) -> tuple[tuple[str, ...], ...]:
        """What the result depends on."""
        return self.layers, self.packages, self.modules


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a wish: the modules that are in memory now, and why none are."""

    modules: tuple[str, ...] = ()
    dropped: str = ""


def wish_of(located: Located) -> Wish:
    """The wish that a preload's fields spell.

    Raises:
        BadOrder: A field is missing, mistyped or out of range.
    """
    fields = {"packages": [], **located.fields}
    modules, limit_ms = fields.get("modules"), fields.get("limit_ms", DEFAULT_LIMIT_MS)
    if not isinstance(modules, list) or not all(isinstance(name, str) and name for name in modules):
        raise BadOrder("modules: expected a list of modules' names")
    if sum(map(len, modules)) > _MAX_NAMES:
        raise BadOrder(f"modules: expected at most {_MAX_NAMES} letters")
    if not isinstance(limit_ms, int) or isinstance(limit_ms, bool) or limit_ms < 1:
        raise BadOrder(f"limit_ms: expected a whole number of at least 1, got {limit_ms!r}")
    return Wish(layers_of(fields), packages_of(fields), tuple(modules), located.parts, limit_ms)


class Preloading:
    """An agent's preloading: at most one wish at a time, and the result of the last.

    Args:
        adopt: Told of a zygote that shall take the place of the one there is.
    """

    def __init__(self, selector: selectors.BaseSelector, options: Options, adopt: Callable[[Birth], None]) -> None:
        self._selector, self._options, self._adopt = selector, options, adopt
        self._wish: Wish | None = None
        self._asking: list[Callable[[Result | Error], None]] = []
        self._fetching: Fetching | None = None
        self._successor: Successor | None = None
        self._until_us = 0
        self._last: tuple[Wish, Result] | None = None

    @property
    def until_us(self) -> int | None:
        """When `expire` must be called at the latest."""
        if self._wish is None:
            return None
        return self._fetching.until_us if self._fetching else self._until_us

    @property
    def dropped(self) -> str:
        """Why the last wish came to nothing, if it did."""
        return self._last[1].dropped if self._last else ""

    def busy_with_another(self, wish: Wish) -> bool:
        """Whether this wish would have to wait for a different one."""
        return self._wish is not None and self._wish.key != wish.key

    def ask(self, wish: Wish, tell: Callable[[Result | Error], None]) -> None:
        """Carries the wish out; `tell` gets the result, or why a part could not be fetched."""
        if self._last and self._last[0].key == wish.key and not self._last[1].dropped:
            tell(self._last[1])
            return
        self._asking.append(tell)
        if self._wish is not None:
            return
        self._wish = wish
        self._until_us = time.monotonic_ns() // 1000 + wish.limit_ms * 1000
        if all(os.path.isdir(part.folder) for part in wish.parts):
            self._fetched({})
            return
        try:
            self._fetching = Fetching(self._selector, wish.parts, wish.limit_ms, self._fetched)
        except OSError as error:
            self._end(Result(dropped=f"no process could be made: {error}"))

    def expire(self, now_us: int) -> None:
        """Gives up what is overdue."""
        if self._fetching:
            self._fetching.expire(now_us)
        elif self._wish and now_us >= self._until_us:
            self._end(Result(dropped=f"not imported within {self._wish.limit_ms} ms"))

    def cancel(self, why: str) -> None:
        """The slot is wanted now, as it is, or not at all."""
        if self._wish:
            self._end(Result(dropped=f"{why} before the modules were imported"))

    def _fetched(self, error: Error) -> None:
        self._fetching = None
        if error or self._wish is None:
            self._end(error)
        elif missing := [folder for folder in self._wish.packages if not os.path.isdir(folder)]:
            self._end(Result(dropped=f"no such folder: {missing[0]}"))
        elif self._options.private_tmp:
            self._end(Result(dropped="a slot with namespaces of its own imports ahead at its birth only"))
        elif not self._wish.modules:
            self._end(Result())
        else:
            self._succeed(self._wish)

    def _succeed(self, wish: Wish) -> None:
        try:
            self._successor = Successor(self._selector, self._options, wish, self._born)
        except OSError as error:
            self._end(Result(dropped=f"no process could be made: {error}"))

    def _born(self, born: Birth | None, result: Result) -> None:
        self._successor = None
        if born:
            self._adopt(born)
        self._end(result)

    def _end(self, result: Result | Error) -> None:
        wish, self._wish = self._wish, None
        asking, self._asking = self._asking, []
        if self._fetching:
            self._fetching.cancel()
        if self._successor:
            self._successor.end()
        self._fetching = self._successor = None
        if wish and isinstance(result, Result):
            self._last = (wish, result)
        for tell in asking:
            tell(result)


class Successor:
    """A zygote that imports, and may become the slot's.

    Args:
        then: Told once: the zygote if it is fit to be forked from, and what it has imported, or why not.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        options: Options,
        wish: Wish,
        then: Callable[[Birth | None, Result], None],
    ) -> None:
        self._selector, self._then = selector, then
        self._heard = b""
        self._ends, theirs = connected()
        self._pid = os.fork()
        if self._pid == 0:
            _be_successor(options, wish, theirs)
        theirs.close()
        self._ends.link.setblocking(False)
        selector.register(self._ends.link, selectors.EVENT_READ, lambda _events: self._hear())

    def end(self) -> None:
        """It will not be needed."""
        processes.end_all([self._pid])
        self._selector.unregister(self._ends.link)
        self._ends.close()

    def _hear(self) -> None:
        piece = _received(self._ends)
        self._heard += piece
        lines = self._heard.decode(errors="replace").split("\n")
        if piece and not any(line.startswith(("ready", "dropped")) for line in lines[:-1]):
            return
        told = {word: rest for word, _, rest in (line.partition(" ") for line in lines[:-1])}
        if "ready" in told:
            self._selector.unregister(self._ends.link)
            self._ends.link.setblocking(True)
            modules = tuple(name for name in told["imported"].split(",") if name)
            self._then(Birth(self._pid, self._ends, ()), Result(modules))
            return
        self.end()
        self._then(None, Result(dropped=told.get("dropped", "the process that imported them ended")))


def _received(ends: AgentEnds) -> bytes:
    try:
        return ends.link.recv(65536)
    except OSError:
        return b""


def _be_successor(options: Options, wish: Wish, ends: WorkerEnds) -> NoReturn:
    try:
        system.become_nobodys(*ends.descriptors)
        folders = import_folders(wish.layers, wish.packages)
        reason = preload.preload_more(wish.modules, folders)
        if reason:
            os.write(ends.link, f"dropped {reason}\n".encode())
            os._exit(0)
        imported = [name for name in wish.modules if name in sys.modules]
        os.write(ends.link, f"imported {','.join(imported)}\n".encode())
        birth.be_zygote(ends, (*folders, *options.preload_path))
    except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(70)
