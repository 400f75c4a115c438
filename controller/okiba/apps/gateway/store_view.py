"""The object store as `okiba doctor` sees it: whether it announces to this Okiba, and what it has to be told.

The gateway asks, since it has the platform's key and is told by which address the store reaches the admin port. The
token of notifications is not part of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from okiba.core import announcing
from okiba.core.announcing import Announcing
from okiba.core.binding import Binding
from okiba.core.errors import NotFound, OkibaError
from okiba.core.function import Function, State
from okiba.core.notification import minio_notify_commands, minio_notify_environment
from okiba.settings import Settings

if TYPE_CHECKING:
    from okiba.adapters.s3_admin import S3Admin
    from okiba.apps.gateway.services import ControlServices

TOKEN: Final = "$OKIBA_WEBHOOK_TOKEN"  # noqa: S105 (where the token goes)

QUEUE_DIR: Final = Path("/var/lib/minio-okiba-queue")
"""A proposal: whose MinIO it is knows its disks."""


async def view(services: ControlServices) -> Mapping[str, Any]:
    """The answer of `GET /okiba/v1/store`."""
    functions = [function for function in await services.registry.all() if function.state is State.ACTIVE]
    asked = await asyncio.to_thread(_asked, services.settings, functions)
    return {"endpoint": services.settings.s3_endpoint, **asked, "minio": minio_settings(services.settings)}


def webhook_url(settings: Settings) -> str:
    """How the store reaches the admin port."""
    return settings.s3_webhook_url or f"http://{settings.admin_address}"


def minio_settings(settings: Settings) -> dict[str, Any]:
    """What a MinIO has to be told: as variables before it starts, or as commands."""
    queue = settings.state_dir / "queue" if settings.fleet == "local" else QUEUE_DIR
    environment = minio_notify_environment(webhook_url(settings), TOKEN, queue)
    return {
        "environment": environment,
        "commands": minio_notify_commands(webhook_url(settings), TOKEN, queue),
        "queue_dir": str(queue),
    }


def _asked(settings: Settings, functions: list[Function]) -> dict[str, Any]:
    """What the store says; blocks."""
    from okiba.adapters.s3_admin import S3Admin

    store = S3Admin.of(settings)
    try:
        lanes = announcing.lanes(store.targets(), webhook_url(settings))
        buckets = [_bucket(store, name, functions) for name in _bound(functions)]
    except OkibaError as error:
        return {"ok": False, "message": str(error), "lanes": [], "buckets": []}
    return {
        "ok": True,
        "message": "answers",
        "lanes": [asdict(lane) for lane in lanes],
        "buckets": [{**asdict(found), "functions": _names(functions, found.name)} for found in buckets],
    }


def _bucket(store: S3Admin, name: str, functions: list[Function]) -> Announcing:
    try:
        return announcing.bucket(name, store.rules(name), _bindings(functions))
    except NotFound:
        return Announcing(name, ok=False, message="is not there")


def _bindings(functions: list[Function]) -> list[Binding]:
    return [binding for function in functions for binding in function.bindings]


def _bound(functions: list[Function]) -> list[str]:
    return sorted({binding.bucket for binding in _bindings(functions)})


def _names(functions: list[Function], bucket: str) -> list[str]:
    return sorted(each.name for each in functions if any(binding.bucket == bucket for binding in each.bindings))
