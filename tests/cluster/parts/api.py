"""Requests to the suite's own API server, as an administrator: what starting the cluster and its policies need.

Tests use `kubectl`, which reads any kubeconfig; here a few requests make the difference between five seconds and ten.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from tests.cluster.layout import API_ADDRESS
from tests.cluster.parts.certificates import AUTHORITY, certificate, key

PORT = 6443
FIELD_MANAGER = "okiba-cluster"
REQUEST_S = 10.0


class Refused(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class NotThere(Refused):
    """There is no such object."""


class Api:
    """The API server, as the bearer of one of the suite's certificates.

    Args:
        client: The certificate's name.
    """

    def __init__(self, client: str = "admin") -> None:
        self._context = ssl.create_default_context(cafile=str(AUTHORITY))
        self._context.load_cert_chain(certificate(client), key(client))

    def get(self, path: str) -> Any:
        """The document at this path.

        Raises:
            OSError: There is no API server.
            Refused: It has no such document.
        """
        return json.loads(self._request("GET", path))

    def answers(self, path: str) -> bool:
        """Whether the server answers there, and well."""
        try:
            self._request("GET", path)
        except (OSError, http.client.HTTPException, Refused):
            return False
        return True

    def apply(self, document: Mapping[str, Any]) -> None:
        """Makes the object so (server-side apply)."""
        path = f"{object_path(document)}?fieldManager={FIELD_MANAGER}&force=true"
        self._request("PATCH", path, json.dumps(document), "application/apply-patch+yaml")

    def delete(self, document: Mapping[str, Any]) -> None:
        """The object is gone, or on its way."""
        with contextlib.suppress(NotThere):
            self._request("DELETE", object_path(document))

    def watch(self, path: str, version: str, seconds: int) -> Iterator[dict[str, Any]]:
        """What happens to the objects at this path after this version, for so many seconds.

        Raises:
            OSError: The connection broke.
            Refused: It no longer knows this version.
        """
        query = f"watch=true&resourceVersion={version}&timeoutSeconds={seconds}&allowWatchBookmarks=true"
        connection = self._connect(seconds + REQUEST_S)
        try:
            connection.request("GET", f"{path}?{query}")
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                _check(response.status, response.read())
            for line in response:
                yield json.loads(line)
        finally:
            connection.close()

    def _request(self, method: str, path: str, body: str | None = None, kind: str = "application/json") -> bytes:
        connection = self._connect(REQUEST_S)
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        _check(response.status, content)
        return content

    def _connect(self, seconds: float) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(API_ADDRESS, PORT, timeout=seconds, context=self._context)
        connection.connect()
        assert connection.sock is not None
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection


def object_path(document: Mapping[str, Any]) -> str:
    """Where the API server keeps this object; of the kinds whose plural is regular, or nearly so."""
    version, kind, metadata = document["apiVersion"], document["kind"], document["metadata"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{group}{place}/{kind.lower()}{'es' if kind.endswith('s') else 's'}/{metadata['name']}"


def _check(status: int, content: bytes) -> None:
    if status >= http.HTTPStatus.MULTIPLE_CHOICES:
        refusal = NotThere if status == http.HTTPStatus.NOT_FOUND else Refused
        raise refusal(status, content.decode(errors="replace")[:500])
