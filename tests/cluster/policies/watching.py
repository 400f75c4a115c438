"""Policies, pods and namespaces as they are now, for whoever makes rules of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Final

from tests.cluster.parts.api import Api
from tests.cluster.parts.watching import Watched
from tests.cluster.policies.model import Pod, World, read_pod, read_policy

PATHS: Final = {
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
}


class WatchedWorld:
    """All that the rules depend on, and a bell that rings when it changes."""

    def __init__(self, api: Api) -> None:
        self.changed = threading.Event()
        self._watched = {name: Watched(api, path, self.changed.set) for name, path in PATHS.items()}

    def await_lists(self) -> None:
        """Returns when everything was listed: rules made of half of it would open or close too much."""
        for watched in self._watched.values():
            watched.listed.wait()

    def now(self) -> World:
        """As it is known now."""
        return World(
            policies=[read_policy(document) for document in self._watched["policies"].objects()],
            pods=current_pods(self._watched["pods"].objects()),
            namespaces={
                document["metadata"]["name"]: document["metadata"].get("labels", {})
                for document in self._watched["namespaces"].objects()
            },
        )


def current_pods(documents: Iterable[dict[str, Any]]) -> list[Pod]:
    """The pods that have an address, one each: the newest has it when an older one is still on its way out."""
    by_age = sorted(documents, key=lambda document: document["metadata"]["creationTimestamp"])
    return list({pod.address: pod for pod in map(read_pod, by_age) if pod}.values())
