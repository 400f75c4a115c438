"""The public port: Invoke goes down the data path, everything else, once its signature is proved, to the control plane.

Who calls is checked in two steps: his claim as soon as the head is there, before a byte of the body is read; its proof
when the body, which the signature covers, is whole.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from okiba.apps.gateway import asgi
from okiba.apps.gateway.access import EVERYONE, Access, digest
from okiba.apps.gateway.http import Call, Head, Reply
from okiba.apps.gateway.invoke import PREFIX, SUFFIX, InvokeApi
from okiba.apps.gateway.server import Admission
from okiba.ports import Principal

MAX_CONTROL_BODY: Final = 70 * 1024 * 1024
"""A package of 50 MB in base64, and its configuration."""
_CONTROL: Final = Admission(MAX_CONTROL_BODY, spool=True, operation="control plane's")


class PublicApp:
    """The public port's application."""

    def __init__(self, invoke: InvokeApi, control: asgi.App, access: Access) -> None:
        self._invoke = invoke
        self._control = control
        self._access = access

    def admit(self, head: Head) -> Admission:
        """What the request may send, if the key that it claims is known."""
        head.claim = self._access.claim(head)
        head.invokes = _is_invoke(head)
        return self._invoke.admit(head) if head.invokes else _CONTROL

    def answer(self, call: Call) -> Awaitable[Reply]:
        """The answer to a request."""
        return self._invoke.answer(call) if call.head.invokes else self._controlled(call)

    async def _controlled(self, call: Call) -> Reply:
        return await asgi.answered(self._control, call, await self._caller(call))

    async def _caller(self, call: Call) -> Principal:
        claim = call.head.claim
        return EVERYONE if claim is None else self._access.prove(claim, call.head, await digest(call.body))


def _is_invoke(head: Head) -> bool:
    return head.method == "POST" and head.path.startswith(PREFIX) and head.path.endswith(SUFFIX)
