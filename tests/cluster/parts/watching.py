"""Objects as the API server has them now: listed once, then followed.

An API server that is away, or that has forgotten where we were, is asked again and again; what was known stays known
meanwhile.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from typing import Any, Final

from tests.cluster.parts.api import Api, Refused

WATCH_S: Final = 300
"""After so long a watch ends by itself and is begun again, which costs nothing and forgets nothing."""

PAUSE_S: Final = 0.3
"""Between two attempts at an API server that is away."""


class Watched:
    """The objects of one kind, by namespace and name, kept up to date by a thread.

    Args:
        changed: Called after every change.
    """

    def __init__(self, api: Api, path: str, changed: Callable[[], None]) -> None:
        self._api = api
        self._path = path
        self._changed = changed
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()
        self.listed = threading.Event()
        threading.Thread(target=self._follow, name=path, daemon=True).start()

    def objects(self) -> list[dict[str, Any]]:
        """All of them, in a lasting order."""
        with self._lock:
            return [self._objects[name] for name in sorted(self._objects)]

    def _follow(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self._watch_from(self._list())
            except (OSError, http.client.HTTPException, Refused, ValueError) as error:
                print(f"{self._path}: {error!r}; asking again", flush=True)
                pause.wait(PAUSE_S)

    def _list(self) -> str:
        """Takes over what there is; the version to go on from."""
        answer = self._api.get(self._path)
        with self._lock:
            self._objects = {_name(item): item for item in answer["items"]}
        self.listed.set()
        self._changed()
        return str(answer["metadata"]["resourceVersion"])

    def _watch_from(self, version: str) -> None:
        """Follows until the server says that it no longer knows this version."""
        while True:
            for event in self._api.watch(self._path, version, WATCH_S):
                if event["type"] == "ERROR":
                    return
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._take(event["type"], event["object"])

    def _take(self, kind: str, item: dict[str, Any]) -> None:
        with self._lock:
            if kind == "DELETED":
                self._objects.pop(_name(item), None)
            else:
                self._objects[_name(item)] = item
        self._changed()


def _name(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
