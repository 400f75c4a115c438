"""Follows a collection of Kubernetes objects: everything once, then every change, for as long as anybody listens.

A watch blocks, so it has a thread of its own; what it sees comes through a queue. Whoever follows must take everything
twice and in any order, and compare a `Listing` with what he knows, for changes may have been missed before it:

    410 Gone                 listed anew
    429, away, broken off    asked again after a pause that the server names, or that grows
    every `RELIST_S`         listed anew anyway
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from okiba.adapters.kube_api import HistoryGone
from okiba.core.backoff import Backoff
from okiba.core.errors import CallerError, ClusterUnavailable

log = logging.getLogger(__name__)

Document = dict[str, Any]
Lister = Callable[[], tuple[list[Document], str]]
Watcher = Callable[[str], Iterator[Document]]

RELIST_S: Final = 300.0
SHORTEST_S: Final = 1.0
"""A watch that ends sooner was broken off by somebody in between; asking again at once would go on for ever."""

FIRST_PAUSE_S: Final = 0.2
LAST_PAUSE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything there is; what is not in it is not there, or a server has forgotten it."""

    objects: list[Document]


@dataclass(frozen=True, slots=True)
class Change:
    """One object as it is now, or as it was when it went."""

    object: Document
    gone: bool


class Watch:
    """One collection.

    Args:
        what: Its name, for logs.
        lister: Everything, and the version of that.
        watcher: Events since a version; ends by itself now and then.
    """

    def __init__(self, what: str, lister: Lister, watcher: Watcher) -> None:
        self._what, self._lister, self._watcher = what, lister, watcher
        self._stopped = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[Listing | Change] = asyncio.Queue()
        self._backoff = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S)

    async def follow(self) -> AsyncIterator[Listing | Change]:
        """A listing, then changes, with further listings in between; never ends."""
        # A daemon: it may sit in a read for half a minute after nobody listens any more.
        threading.Thread(target=self._run, name=f"watch {self._what}", daemon=True).start()
        try:
            while True:
                yield await self._news.get()
        finally:
            self._stopped.set()

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        version, listed_at = "", 0.0
        while not self._stopped.is_set():
            try:
                if not version or time.monotonic() - listed_at > RELIST_S:
                    objects, version = self._lister()
                    listed_at = time.monotonic()
                    self._tell(Listing(objects))
                begun = time.monotonic()
                for event in self._watcher(version):
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._happened(event)
                if time.monotonic() - begun < SHORTEST_S:
                    self._pause(0.0)
            except HistoryGone:
                version = ""
                self._pause(0.0)
            except (ClusterUnavailable, CallerError, KeyError) as trouble:
                log.warning("objects cannot be followed", extra={"what": self._what, "reason": str(trouble)})
                self._pause(getattr(trouble, "after_s", 0.0))

    def _happened(self, event: Document) -> None:
        self._backoff.succeeded()
        if event["type"] != "BOOKMARK":
            self._tell(Change(event["object"], gone=event["type"] == "DELETED"))

    def _tell(self, news: Listing | Change) -> None:
        if not self._stopped.is_set():
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._news.put_nowait, news)

    def _pause(self, asked_s: float) -> None:
        """Longer with every failure, never shorter than the server asks for."""
        grown_s = self._backoff.failed()
        self._stopped.wait(max(asked_s, grown_s) * random.uniform(0.75, 1.25))  # noqa: S311 (spreads clients out)
