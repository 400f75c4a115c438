"""The admin port: notifications come in, health and numbers go out. Never public; raw ASGI.

POST /webhooks/s3/{lane}   with the bearer token; 200 once the notification is durable
GET  /healthz              the process lives
GET  /readyz               this process can take calls; Redis and MinIO away are conditions, not unreadiness
GET  /metrics              Prometheus's text
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Final

from prometheus_client import generate_latest

from okiba.apps.gateway.access import header_map
from okiba.apps.gateway.http import ClientGone, Receive, Scope, Send, answer, answer_error, read_body
from okiba.apps.gateway.metrics import Metrics
from okiba.core.errors import AccessDenied, CallerError, NotFound, OkibaError, StoreUnavailable
from okiba.flow.ingest import MAX_BODY, Ingest

WEBHOOK: Final = "/webhooks/s3/"
_LANE: Final = re.compile(r"[a-z0-9-]{1,32}")
_TEXT: Final = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class AdminApp:
    """The admin port's ASGI application.

    Args:
        token: The bearer token of notifications; empty refuses them all.
        ready: Whether this process can take calls.
        refresh: Brings gauges up to date before they are shown.
    """

    def __init__(
        self, ingest: Ingest, token: str, metrics: Metrics, ready: Callable[[], bool], refresh: Callable[[], None]
    ) -> None:
        self._ingest = ingest
        self._expected = f"Bearer {token}".encode() if token else b""
        self._metrics = metrics
        self._ready = ready
        self._refresh = refresh

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        try:
            if scope["path"].startswith(WEBHOOK):
                await self._webhook(scope, receive, send)
            else:
                await self._page(scope, send)
        except ClientGone:
            return
        except OkibaError as error:
            if scope["path"].startswith(WEBHOOK):
                self._metrics.refused.labels(error.code).inc()
            await answer_error(send, error)

    async def _webhook(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = header_map(scope)
        lane = scope["path"][len(WEBHOOK) :]
        if scope["method"] == "HEAD" or scope["method"] == "GET":
            await answer(send, 200, b"", [])  # MinIO asks whether somebody is here
            return
        given = headers.get("authorization", "").encode()
        if not self._expected or not hmac.compare_digest(given, self._expected):
            raise AccessDenied("notifications need the token that `okiba doctor` names")
        if not _LANE.fullmatch(lane):
            raise NotFound(f"lane must match {_LANE.pattern}, got {lane[:40]!r}")
        try:
            body = await read_body(receive, headers.get("content-length"), MAX_BODY)
            await self._ingest.accept(lane, body)
        except StoreUnavailable:
            raise
        except CallerError:
            # Refusing it would make MinIO send it for ever, and hold up all that follow.
            await answer(send, 200, b"", [])
            raise
        self._metrics.notifications.labels(lane).inc()
        await answer(send, 200, b"", [])

    async def _page(self, scope: Scope, send: Send) -> None:
        path = scope["path"]
        if path == "/healthz":
            await answer(send, 200, b"ok\n", [_TEXT])
        elif path == "/readyz":
            ready = self._ready()
            await answer(send, 200 if ready else 503, b"ready\n" if ready else b"starting\n", [_TEXT])
        elif path == "/metrics":
            self._refresh()
            await answer(send, 200, generate_latest(self._metrics.registry), [_TEXT])
        else:
            raise NotFound(f"no such page on the admin port: {path[:100]}")
