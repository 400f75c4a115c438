"""Kubernetes' API as the controller uses it: plain dicts in and out, one method a call, each blocking and bounded.

Made for threads: `KubeApi.call` runs one in a small pool of its own. Answers are not turned into the client's models,
which cost more processor time than the calls themselves. Everything that changes the cluster passes the fence first, in
the thread that sends it: a controller that has lost its Lease sends nothing more.

Only pods that were named, and with the uid that was seen, are ever deleted; there is no call here that deletes many.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import quote

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from okiba.core.errors import (
    AccessDenied,
    CallerError,
    ClusterUnavailable,
    Conflict,
    InvalidParameter,
    NotFound,
)

Document = dict[str, Any]
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

CONNECT_S: Final = 2.0
READ_S: Final = 10.0
WATCH_S: Final = 30
"""A watch is asked for anew so often: an API server that went away without a word is noticed by then."""

PAGE: Final = 500
THREADS: Final = 8

GROUP: Final = "okiba.dev"
VERSION: Final = "v1alpha1"
PLURAL: Final = "functions"
FIELD_MANAGER: Final = "okiba-controller"

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_APPLY: Final = "application/apply-patch+yaml"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_MERGE: Final = "application/merge-patch+json"


class HistoryGone(ClusterUnavailable):
    """410: what happened since that version is no longer known; everything has to be listed anew."""


def own_namespace() -> str:
    """The namespace of the pod that this process runs in; `default` outside a cluster."""
    with contextlib.suppress(OSError):
        return _NAMESPACE_FILE.read_text().strip()
    return "default"


class KubeApi:
    """One namespace of functions, and the Lease beside it.

    Args:
        api: A client that is told where the API server is.
        namespace: Where pods and `Function` objects are.
        fence: Called before every change of the namespace; raises `NotLeading`.
    """

    def __init__(self, api: client.ApiClient, namespace: str, fence: Callable[[], None]) -> None:
        self.namespace = namespace
        self._api = api
        self._fence = fence
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kube")

    @classmethod
    def open(cls, namespace: str, fence: Callable[[], None]) -> KubeApi:
        """By the pod's service account, else by KUBECONFIG.

        Raises:
            InvalidParameter: Neither is there.
        """
        settings = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            else:
                config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise InvalidParameter(f"OKIBA_FLEET=kubernetes needs a service account or KUBECONFIG: {error}") from error
        settings.retries = False  # who asks decides whether to ask again
        settings.connection_pool_maxsize = THREADS + 4
        return cls(client.ApiClient(settings), namespace, fence)

    async def call(
        self, method: Callable[Arguments, Answer], *args: Arguments.args, **named: Arguments.kwargs
    ) -> Answer:
        """What one of the methods below returns, awaited."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: method(*args, **named))

    def close(self) -> None:
        """No more calls are begun; those under way end by their deadlines."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._api.close()  # type: ignore[no-untyped-call]

    # --- pods -------------------------------------------------------------------------------------------------------

    def pods(self, selector: str) -> tuple[list[Document], str]:
        """All pods of a label, and the version of that list."""
        return self._all_pages(self._path("pods"), {"labelSelector": selector})

    def watch_pods(self, selector: str, version: str) -> Iterator[Document]:
        """Events `{type, object}` since that version, for `WATCH_S`.

        Raises:
            HistoryGone: It is too old.
        """
        return self._watched(self._path("pods"), {"labelSelector": selector, "resourceVersion": version})

    def pod(self, name: str) -> Document | None:
        """The pod of that name."""
        return self._found(self._path("pods", name))

    def create_pod(self, manifest: Document) -> Document:
        """The pod, as the cluster took it. Made twice under one name it is made once.

        Raises:
            CallerError: It is refused: a quota, a policy, a mistake.
        """
        self._fence()
        with contextlib.suppress(Conflict):
            return self._sent("POST", self._path("pods"), body=manifest)
        return self._sent("GET", self._path("pods", manifest["metadata"]["name"]))

    def patch_pod(self, name: str, patch: Document) -> None:
        """The pod's metadata say this too; one that is gone stays gone."""
        self._fence()
        with contextlib.suppress(NotFound):
            self._sent("PATCH", self._path("pods", name), body=patch, kind=_MERGE)

    def resize_pod(self, name: str, patch: Document) -> None:
        """The pod's containers may use as much as this says; one that is gone stays gone.

        Raises:
            CallerError: The cluster does not resize in place, or not this.
        """
        self._fence()
        self._sent("PATCH", self._path("pods", name) + "/resize", body=patch, kind=_STRATEGIC)

    def delete_pod(self, name: str, uid: str, grace_s: int) -> None:
        """That very pod is ending, or gone; another one of its name is not touched."""
        self._fence()
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": grace_s,
            "preconditions": {"uid": uid},
        }
        with contextlib.suppress(NotFound, Conflict):
            self._sent("DELETE", self._path("pods", name), body=options)

    # --- what functions are made of ---------------------------------------------------------------------------------

    def config_map(self, name: str) -> Document | None:
        """A ConfigMap of the functions' namespace."""
        return self._found(self._path("configmaps", name))

    def secret(self, name: str) -> Document | None:
        """A Secret of the functions' namespace, by its name; they are never listed."""
        return self._found(self._path("secrets", name))

    def functions(self) -> tuple[list[Document], str]:
        """All `Function` objects, and the version of that list."""
        return self._all_pages(self._function_path(), {})

    def function(self, name: str) -> Document | None:
        """The `Function` object of that name."""
        return self._found(self._function_path(name))

    def watch_functions(self, version: str) -> Iterator[Document]:
        """Events `{type, object}` since that version, for `WATCH_S`.

        Raises:
            HistoryGone: It is too old.
        """
        return self._watched(self._function_path(), {"resourceVersion": version})

    def patch_function(self, name: str, patch: Document) -> None:
        """A merge patch of one `Function` object, for its finalizers; one that is gone stays gone.

        Raises:
            Conflict: `metadata.resourceVersion` in the patch is not the current one.
        """
        self._fence()
        with contextlib.suppress(NotFound):
            self._sent("PATCH", self._function_path(name), body=patch, kind=_MERGE)

    def apply_status(self, name: str, status: Document) -> None:
        """The `Function`'s status is this, by server-side apply; one that is gone stays gone."""
        self._fence()
        document = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Function",
            "metadata": {"name": name, "namespace": self.namespace},
            "status": status,
        }
        manager = {"fieldManager": FIELD_MANAGER, "force": "true"}
        with contextlib.suppress(NotFound):
            self._sent("PATCH", self._function_path(name) + "/status", manager, document, _APPLY)

    # --- the Lease, which is what the fence stands on ---------------------------------------------------------------

    def lease(self, namespace: str, name: str) -> Document | None:
        """The Lease of that name."""
        return self._found(_lease_path(namespace, name))

    def create_lease(self, namespace: str, lease: Document) -> Document:
        """The Lease, new.

        Raises:
            Conflict: There is one.
        """
        return self._sent("POST", _lease_path(namespace), body=lease)

    def replace_lease(self, namespace: str, lease: Document) -> Document:
        """The Lease, changed.

        Raises:
            Conflict: Somebody else was faster.
        """
        return self._sent("PUT", _lease_path(namespace, lease["metadata"]["name"]), body=lease)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _path(self, plural: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/{plural}{_last(name)}"

    def _function_path(self, name: str = "") -> str:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}{_last(name)}"

    def _found(self, path: str) -> Document | None:
        with contextlib.suppress(NotFound):
            return self._sent("GET", path)
        return None

    def _all_pages(self, path: str, query: Mapping[str, str]) -> tuple[list[Document], str]:
        items: list[Document] = []
        more = ""
        while True:
            page = self._sent("GET", path, {**query, "limit": str(PAGE), **({"continue": more} if more else {})})
            items += page.get("items") or []
            more = page["metadata"].get("continue") or ""
            if not more:
                return items, page["metadata"]["resourceVersion"]

    def _sent(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
        kind: str = "application/json",
    ) -> Document:
        """The answer of one call.

        Raises:
            ClusterUnavailable: The API server is away, overloaded or broken.
            CallerError: It refuses.
        """
        try:
            answer = self._answered(verb, path, query or {}, body, kind, READ_S)
            document: Document = json.loads(answer.data)
        except (HTTPError, OSError, ValueError) as error:
            raise ClusterUnavailable(f"Kubernetes' API did not answer: {error}") from error
        return document

    def _watched(self, path: str, query: Mapping[str, str]) -> Iterator[Document]:
        """The events of one watch, as they come."""
        asked = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_S)}
        try:
            answer = self._answered("GET", path, asked, None, "application/json", WATCH_S + READ_S)
            try:
                for line in _lines(answer):
                    yield _event(json.loads(line))
            finally:
                answer.close()
                answer.release_conn()
        except (HTTPError, OSError, ValueError) as error:
            raise ClusterUnavailable(f"Kubernetes' API broke a watch off: {error}") from error

    def _answered(
        self, verb: str, path: str, query: Mapping[str, str], body: Document | None, kind: str, read_s: float
    ) -> Any:
        """A good answer, its body yet to be read."""
        headers = {"Accept": "application/json", **({"Content-Type": kind} if body is not None else {})}
        request = self._api.param_serialize(
            verb,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._api.call_api(*request, _request_timeout=(CONNECT_S, read_s))
        except ApiException as error:  # of the client's own, such as a certificate that does not fit
            raise ClusterUnavailable(f"Kubernetes' API did not answer: {error.reason}") from error
        if not 200 <= answer.status <= 299:
            raise _refused(answer.status, answer.headers, answer.response.data)
        return answer.response


def _lines(answer: Any) -> Iterator[bytes]:
    begun = b""
    for piece in answer.stream(None, decode_content=False):
        *whole, begun = (begun + piece).split(b"\n")
        yield from (line for line in whole if line)


def _event(event: Document) -> Document:
    """The event, unless it is the API server's own complaint."""
    if event["type"] == "ERROR":
        status = event["object"]
        if status.get("code") == 410:
            raise HistoryGone(f"the watch is too old: {status.get('message')}")
        raise ClusterUnavailable(f"the watch failed: {status.get('message')}")
    return event


def _refused(status: int, headers: Mapping[str, str], body: bytes) -> ClusterUnavailable | CallerError:
    """What the API server answered instead, as one of our errors."""
    message = _message(body) or f"answered {status}"
    if status == 410:
        return HistoryGone(message)
    if status == 429 or status >= 500:
        told = headers.get("Retry-After", "")
        return ClusterUnavailable(f"Kubernetes' API answered {status}: {message}", float(told) if told.isdigit() else 0)
    kinds: Mapping[int, type[CallerError]] = {401: AccessDenied, 403: AccessDenied, 404: NotFound, 409: Conflict}
    return kinds.get(status, InvalidParameter)(message)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:1000]
    except (ValueError, TypeError, KeyError):
        return body[:200].decode(errors="replace")


def _last(name: str) -> str:
    return f"/{quote(name, safe='')}" if name else ""


def _lease_path(namespace: str, name: str = "") -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases{_last(name)}"
