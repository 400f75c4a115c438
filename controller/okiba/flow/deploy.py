"""Writes functions into the registry: created with a key pair of their own, changed, removed with all that is theirs.

Every door comes through here, Lambda's API and `Function` objects alike. What a function should be is decided before;
preparing it is the reconciler's.
"""

from __future__ import annotations

import base64
import secrets
import uuid
from dataclasses import replace
from typing import Final

from okiba.core.errors import Conflict, PreconditionFailed
from okiba.core.function import Function, to_prepare
from okiba.ports import Keys, Logs, Principal, Queue, Registry

API: Final = "api"
"""`managed_by` of functions that nobody else manages."""

KUBERNETES: Final = "kubernetes"
"""`managed_by` of functions that `Function` objects describe."""


def check_manager(function: Function, hand: str) -> None:
    """Returns if the function may be changed by this hand: what a `Function` object describes, by that alone.

    Raises:
        Conflict: It is in other hands; the message names them.
    """
    if hand == function.managed_by or KUBERNETES not in (hand, function.managed_by):
        return
    if function.managed_by == KUBERNETES:
        raise Conflict(
            f"Function {function.name} is managed by Kubernetes: change its Function object instead "
            f"(kubectl edit function {function.name})"
        )
    raise Conflict(
        f"function {function.name} is managed by {function.managed_by!r}: delete it there before a Function object can "
        "describe it"
    )


async def create(registry: Registry, keys: Keys, drafted: Function) -> Function:
    """The function with a key pair of its own, both stored.

    Raises:
        Conflict: There is one of that name.
    """
    owner = new_principal(drafted.name)
    function = to_prepare(replace(drafted, access_key=owner.access_key), str(uuid.uuid4()))
    await keys.put(owner)
    try:
        await registry.put(function, replaces=None)
    except PreconditionFailed:
        await keys.delete(owner.access_key)
        raise Conflict(f"Function already exist: {drafted.name}") from None
    return function


async def clear_away(keys: Keys, queue: Queue, logs: Logs, name: str) -> None:
    """Nothing is left of what a function owned that has been deleted; may be called again."""
    await queue.forget(name)
    await logs.forget(name)
    for principal in await keys.all():
        if principal.name == name:
            await keys.delete(principal.access_key)


def new_principal(name: str) -> Principal:
    """A key pair in AWS's form; MinIO takes access keys of up to 20 and secrets of up to 40 characters."""
    access_key = "OKIA" + base64.b32encode(secrets.token_bytes(10)).decode()
    return Principal(access_key, secrets.token_urlsafe(30), name)
