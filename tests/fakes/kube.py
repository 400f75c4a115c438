"""A Kubernetes of one namespace in memory: its API as `KubeApi` has it, a kubelet that starts what it is told to, and
agents on loopback addresses of their own, one a slot.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from okiba.adapters.kube_api import HistoryGone
from okiba.core.errors import Conflict, NotFound, OkibaError
from okiba.core.slot_pod import SLOT_PORT

Document = dict[str, Any]

# Loopback addresses of this process's own: several run these tests at the same time, and every agent has the same port.
_NET = f"127.{16 + os.getpid() // 250 % 200}.{os.getpid() % 250}"
_ADDRESSES = itertools.count(2)


class FakeAgent:
    """One slot's agent: serves until it is shut down; once specialised it asks for a grant."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.specialised = False
        self.preloaded: list[bytes] = []
        self._on_end = on_end
        self._server: asyncio.Server | None = None

    async def listen(self, ip: str, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, ip, port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            writer.write(self._answer(head, body))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, head: bytes, body: bytes) -> bytes:
        granted = b"Okiba-Grant: \r\n" not in head and b"Okiba-Grant: " in head
        if self.specialised and not granted:
            return b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}"
        if b"/shutdown " in head:
            self.close()
            self._on_end()
        if b"/preload " in head:
            self.preloaded.append(body)
        return b"HTTP/1.1 200 OK\r\nOkiba-State: warm\r\nContent-Length: 2\r\n\r\n{}"


class FakeKube:
    """`KubeApi` without a cluster; what it is asked for is noted, what befalls it is for the test to say."""

    namespace = "okiba-functions"

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.functions_by_name: dict[str, Document] = {}
        self.statuses: list[tuple[str, Document]] = []
        self.config_maps: dict[str, Document] = {"okiba-slots": {"metadata": {"name": "okiba-slots", "uid": "anchor"}}}
        self.secrets: dict[str, Document] = {}
        self.agents: dict[str, list[FakeAgent]] = {}
        self.deleted: list[tuple[str, str]] = []
        self.created: list[str] = []
        self.away: OkibaError | None = None
        self.refusal: OkibaError | None = None
        self.forgets = False
        self.lists_nothing = False
        self.starts = True
        self.can_resize = True
        self.resized: dict[str, Document] = {}
        self.lists = 0
        self._events: list[tuple[int, str, Document]] = []
        self._version = 1
        self._news = threading.Condition()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- as KubeApi ---------------------------------------------------------------------------------------------------

    async def call(self, method: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(method, *args)

    def pods(self, selector: str) -> tuple[list[Document], str]:
        self._answer()
        with self._news:
            self.lists += 1
            self.forgets = False
            items = [] if self.lists_nothing else copy.deepcopy(list(self.documents.values()))
            return items, str(self._version)

    def watch_pods(self, selector: str, version: str) -> Iterator[Document]:
        yield from self._watched("Pod", int(version))

    def pod(self, name: str) -> Document | None:
        self._answer()
        with self._news:
            return copy.deepcopy(self.documents.get(name))

    def create_pod(self, manifest: Document) -> Document:
        self._answer()
        if self.refusal:
            raise self.refusal
        name = manifest["metadata"]["name"]
        document = copy.deepcopy(manifest)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document["metadata"] |= {"uid": f"uid-{name}", "creationTimestamp": created}
        document["status"] = {"phase": "Pending"}
        with self._news:
            self.documents[name] = document
            self.created.append(name)
            self._tell("ADDED", document)
        if self.starts:
            self._loop.call_soon_threadsafe(self._spawn_start, name)
        return copy.deepcopy(document)

    def patch_pod(self, name: str, patch: Document) -> None:
        self._answer()
        with self._news:
            document = self.documents.get(name)
            if document is None:
                return
            for part, values in patch["metadata"].items():
                document["metadata"].setdefault(part, {}).update(values)
            self._tell("MODIFIED", document)

    def resize_pod(self, name: str, patch: Document) -> None:
        self._answer()
        if not self.can_resize:
            raise NotFound("the server could not find the requested resource")
        self.resized[name] = patch

    def delete_pod(self, name: str, uid: str, grace_s: int) -> None:
        self._answer()
        with self._news:
            document = self.documents.get(name)
            if document is None or document["metadata"]["uid"] != uid:
                return
            self.deleted.append((name, uid))
        self._loop.call_soon_threadsafe(self.vanish, name)

    def config_map(self, name: str) -> Document | None:
        self._answer()
        return copy.deepcopy(self.config_maps.get(name))

    def secret(self, name: str) -> Document | None:
        self._answer()
        return copy.deepcopy(self.secrets.get(name))

    def functions(self) -> tuple[list[Document], str]:
        self._answer()
        with self._news:
            items = [] if self.lists_nothing else copy.deepcopy(list(self.functions_by_name.values()))
            self.lists, self.forgets = self.lists + 1, False
            return items, str(self._version)

    def function(self, name: str) -> Document | None:
        self._answer()
        with self._news:
            return copy.deepcopy(self.functions_by_name.get(name))

    def watch_functions(self, version: str) -> Iterator[Document]:
        yield from self._watched("Function", int(version))

    def patch_function(self, name: str, patch: Document) -> None:
        self._answer()
        with self._news:
            document = self.functions_by_name.get(name)
            if document is None:
                return
            named = patch["metadata"].get("resourceVersion")
            if named not in (None, document["metadata"]["resourceVersion"]):
                raise Conflict("it has changed meanwhile")
            document["metadata"]["finalizers"] = patch["metadata"]["finalizers"]
            if document["metadata"].get("deletionTimestamp") and not document["metadata"]["finalizers"]:
                del self.functions_by_name[name]
                self._tell("DELETED", document)
            else:
                self._tell("MODIFIED", document)

    def apply_status(self, name: str, status: Document) -> None:
        self._answer()
        with self._news:
            document = self.functions_by_name.get(name)
            if document is not None:
                self.statuses.append((name, status))
                document["status"] = copy.deepcopy(status)
                self._tell("MODIFIED", document)

    # --- what users do ------------------------------------------------------------------------------------------------

    def apply(self, name: str, spec: Document) -> None:
        """A `Function` object is made, or its spec changed."""
        with self._news:
            document = self.functions_by_name.get(name)
            if document is None:
                metadata = {"name": name, "namespace": self.namespace, "uid": f"uid-{name}", "generation": 0}
                document = {"kind": "Function", "metadata": metadata}
            document["metadata"]["generation"] += 1
            document["spec"] = spec
            self.functions_by_name[name] = document
            self._tell("MODIFIED", document)

    def delete_function(self, name: str) -> None:
        """As `kubectl delete` does: gone at once only if nobody has put a finalizer on it."""
        with self._news:
            document = self.functions_by_name[name]
            if document["metadata"].get("finalizers"):
                document["metadata"]["deletionTimestamp"] = "2026-11-22T20:00:00Z"
                self._tell("MODIFIED", document)
            else:
                del self.functions_by_name[name]
                self._tell("DELETED", document)

    # --- as the kubelet -----------------------------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """Every container of the pod runs, with an agent in it."""
        document = self.documents.get(name)
        if document is None:
            return
        ip = f"{_NET}.{next(_ADDRESSES) % 250 + 2}"
        agents = self.agents[name] = []
        for number, _ in enumerate(document["spec"]["containers"]):
            agent = FakeAgent(lambda number=number: self.end_slot(name, number, "Completed", 0))
            await agent.listen(ip, SLOT_PORT + number)
            agents.append(agent)
        document["spec"]["nodeName"] = "node-1"
        running = [
            {"name": container["name"], "ready": True, "state": {"running": {}}}
            for container in document["spec"]["containers"]
        ]
        conditions = [{"type": "Ready", "status": "True"}]
        self.set_status(name, {"phase": "Running", "podIP": ip, "containerStatuses": running, "conditions": conditions})

    def end_slot(self, name: str, number: int, reason: str, exit_code: int) -> None:
        """One container of the pod ends."""
        document = self.documents.get(name)
        if document is None:
            return
        self.agents[name][number].close()
        status = copy.deepcopy(document["status"])
        ended = {"terminated": {"reason": reason, "exitCode": exit_code}}
        status["containerStatuses"][number] |= {"ready": False, "state": ended}
        self.set_status(name, status)

    def vanish(self, name: str) -> None:
        """The pod is gone."""
        for agent in self.agents.pop(name, []):
            agent.close()
        with self._news:
            document = self.documents.pop(name, None)
            if document is not None:
                self._tell("DELETED", document)

    def set_status(self, name: str, status: Document) -> None:
        with self._news:
            self.documents[name]["status"] = status
            self._tell("MODIFIED", self.documents[name])

    def close(self) -> None:
        for agents in self.agents.values():
            for agent in agents:
                agent.close()

    def _spawn_start(self, name: str) -> None:
        task = self._loop.create_task(self.start(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        if self.away:
            raise self.away

    def _tell(self, kind: str, document: Document) -> None:
        self._version += 1
        document["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, kind, copy.deepcopy(document)))
        self._news.notify_all()

    def _watched(self, kind: str, version: int) -> Iterator[Document]:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            self._answer()
            if self.forgets:
                raise HistoryGone("too old")
            with self._news:
                new = [(at, event, each) for at, event, each in self._events if at > version]
                if not new:
                    self._news.wait(0.02)
            for at, event, document in new:
                version = at
                if document["kind"] == kind:
                    yield {"type": event, "object": document}
