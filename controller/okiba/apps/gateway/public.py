"""The public port: Invoke goes down the data path, everything else, once signed, to the control plane.

Control requests can carry a package of 70 MB. Such a body is hashed as it arrives and kept in a file, so that it is
proved before anybody looks into it, and never held in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from hashlib import sha256
from typing import IO, Final

from okiba.apps.gateway.access import EVERYONE, Access, header_map
from okiba.apps.gateway.http import ClientGone, Receive, Scope, Send, answer_error
from okiba.apps.gateway.invoke import PREFIX, SUFFIX
from okiba.core.errors import OkibaError, RequestTooLarge

App = Callable[[Scope, Receive, Send], "object"]

MAX_CONTROL_BODY: Final = 70 * 1024 * 1024
"""A package of 50 MB in base64, and its configuration."""
IN_MEMORY: Final = 1024 * 1024
_PIECE: Final = 64 * 1024


class PublicApp:
    """The public port's ASGI application."""

    def __init__(self, invoke: App, control: App, access: Access) -> None:
        self._invoke = invoke
        self._control = control
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith(PREFIX) and path.endswith(SUFFIX) and scope["method"] == "POST":
            await self._invoke(scope, receive, send)  # type: ignore[misc]
            return
        try:
            with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as body:
                await self._proved(scope, receive, body)
                await self._control(scope, _replay(body, receive), send)  # type: ignore[misc]
        except ClientGone:
            return
        except OkibaError as error:
            await answer_error(send, error)

    async def _proved(self, scope: Scope, receive: Receive, body: IO[bytes]) -> None:
        """Reads the body into `body` and sets the caller, if the signature is right.

        Raises:
            AccessDenied: It is not.
            RequestTooLarge: The body is larger than any operation's.
        """
        headers = header_map(scope)
        claim = self._access.claim(headers, scope)
        digest, size, more = sha256(), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            size += len(piece)
            if size > MAX_CONTROL_BODY:
                raise RequestTooLarge(size, MAX_CONTROL_BODY, "control plane's")
            digest.update(piece)
            body.write(piece)
            more = message.get("more_body", False)
        body.seek(0)
        scope["okiba.principal"] = self._access.prove(claim, headers, scope, digest.hexdigest()) if claim else EVERYONE


def _replay(body: IO[bytes], receive: Receive) -> Receive:
    """A `receive` that tells the stored body again, then what the connection says."""
    finished = False

    async def told() -> dict[str, object]:
        nonlocal finished
        if finished:
            return dict(await receive())
        piece = body.read(_PIECE)
        following = body.read(1)
        if following:
            body.seek(-1, 1)
        finished = not following
        return {"type": "http.request", "body": piece, "more_body": bool(following)}

    return told
