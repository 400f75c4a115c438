"""The admin port: notifications come in, health and numbers go out. Never public.

POST /webhooks/s3/{lane}   with the bearer token; 200 once the notification is durable
GET  /healthz              the process lives
GET  /readyz               this process can take calls; Redis and MinIO away are conditions, not unreadiness
GET  /metrics              Prometheus's text
POST /okiba/v1/peer/…      other gateways (`okiba.apps.gateway.peers`)
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Final

from prometheus_client import generate_latest

from okiba.adapters.peer_http import PREFIX
from okiba.apps.gateway.http import Call, Head, Reply
from okiba.apps.gateway.metrics import Metrics
from okiba.apps.gateway.peers import PeerApp
from okiba.apps.gateway.server import Admission
from okiba.core.errors import AccessDenied, NotFound, OkibaError
from okiba.flow.ingest import MAX_BODY, Ingest

WEBHOOK: Final = "/webhooks/s3/"
_LANE: Final = re.compile(r"[a-z0-9-]{1,32}")
_TEXT: Final = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class AdminApp:
    """The admin port's application.

    Args:
        token: The bearer token of notifications; empty refuses them all.
        ready: Whether this process can take calls.
        refresh: Brings gauges up to date before they are shown.
    """

    def __init__(
        self,
        ingest: Ingest,
        token: str,
        metrics: Metrics,
        ready: Callable[[], bool],
        refresh: Callable[[], None],
        peers: PeerApp,
    ) -> None:
        self._ingest = ingest
        self._expected = f"Bearer {token}".encode() if token else b""
        self._metrics = metrics
        self._ready = ready
        self._refresh = refresh
        self._peers = peers

    def admit(self, head: Head) -> Admission:
        """What the request may send; a notification without the token nothing."""
        if head.path.startswith(PREFIX):
            return self._peers.admit(head)
        if not head.path.startswith(WEBHOOK):
            return Admission(0)
        if head.method == "POST":
            self._check_sender(head)
        return Admission(MAX_BODY, operation="PutBucketNotification")

    async def answer(self, call: Call) -> Reply:
        """The answer to one request."""
        head = call.head
        if head.path.startswith(PREFIX):
            return await self._peers.answer(call)
        if not head.path.startswith(WEBHOOK):
            return self._page(head.path)
        if head.method != "POST":
            return Reply(200, [])  # MinIO asks whether somebody is here
        try:
            return await self._notified(head.path[len(WEBHOOK) :], call.body)  # type: ignore[arg-type]  # never spooled
        except OkibaError as error:
            self._metrics.refused.labels(error.code).inc()
            raise

    def _check_sender(self, head: Head) -> None:
        given = head.headers.get("authorization", "").encode("latin-1")
        if not self._expected or not hmac.compare_digest(given, self._expected):
            error = AccessDenied("notifications need the bearer token in credentials.json of the state folder")
            self._metrics.refused.labels(error.code).inc()
            raise error

    async def _notified(self, lane: str, body: bytes) -> Reply:
        if not _LANE.fullmatch(lane):
            raise NotFound(f"lane must match {_LANE.pattern}, got {lane[:40]!r}")
        await self._ingest.accept(lane, body)
        self._metrics.notifications.labels(lane).inc()
        return Reply(200, [])

    def _page(self, path: str) -> Reply:
        if path == "/healthz":
            return Reply(200, [_TEXT], b"ok\n")
        if path == "/readyz":
            ready = self._ready()
            return Reply(200 if ready else 503, [_TEXT], b"ready\n" if ready else b"starting\n")
        if path == "/metrics":
            self._refresh()
            return Reply(200, [_TEXT], generate_latest(self._metrics.registry))
        raise NotFound(f"no such page on the admin port: {path[:100]}")
