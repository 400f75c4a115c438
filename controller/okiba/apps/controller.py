"""The controller process, `python -m okiba.apps.controller`: prepares functions, and keeps slots.

Slots are this machine's, or on Kubernetes a namespace's; there, of several controllers the one that leads does the
work. It starts whether Redis and MinIO are there or not, and says what it misses as conditions; it ends on SIGTERM.
Slots outlive it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from okiba.adapters.celery_broker import broker_of
from okiba.adapters.celery_jobs import JobSender
from okiba.adapters.code_shelf import CodeShelf
from okiba.adapters.code_stored import StoredCode
from okiba.adapters.layer_shelf import LayerShelf
from okiba.adapters.layer_stored import StoredLayers
from okiba.adapters.redis_conditions import PERIODS_S, Condition, RedisConditions
from okiba.adapters.redis_inbox import RedisInbox
from okiba.adapters.redis_layers import RedisLayers
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_queue import RedisQueue
from okiba.adapters.redis_registry import RedisKeys, RedisRegistry
from okiba.adapters.redis_sweeps import RedisSweeps
from okiba.adapters.s3_admin import S3Admin
from okiba.adapters.s3_listing import S3Listing
from okiba.adapters.s3_store import S3Store
from okiba.adapters.vault import Vault
from okiba.apps.journal import log_to_stderr
from okiba.apps.local.fleet import LocalFleet
from okiba.core.errors import OkibaError, StoreUnavailable
from okiba.flow.follow import Follower
from okiba.flow.reconcile import Parts, Reconciler
from okiba.flow.repair import Repair
from okiba.flow.sweep import Sweeper
from okiba.settings import Settings

log = logging.getLogger(__name__)

CONDITIONS_S: Final = PERIODS_S["controller"]
LAST_PAUSE_S: Final = 5.0

DEFAULT_RUNTIME: Final = f"python{sys.version_info[0]}.{sys.version_info[1]}"
"""Its base layer is built at the first start, so that the first deployment need not wait for it (11 s)."""


async def run(settings: Settings) -> None:
    """Runs until cancelled."""
    link = await opened(settings.redis_url)
    try:
        if settings.fleet == "kubernetes":
            from okiba.apps.kube import leader  # the client takes 30 MB and half a second

            await leader.lead(settings, link, partial(prepare, settings, link))
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(prepare(settings, link))
            if settings.fleet_address:
                registry = RedisRegistry(link, Vault(settings.platform_key), settings.tenant)
                group.create_task(LocalFleet(settings, registry, link).run())
    finally:
        await link.close()


async def prepare(settings: Settings, link: RedisLink) -> None:
    """Prepares functions as the registry has them; runs until cancelled."""
    vault = Vault(settings.platform_key)
    registry, admin = RedisRegistry(link, vault, settings.tenant), S3Admin.of(settings)
    objects = S3Store.of(settings)
    state_dir = settings.state_dir.absolute()
    shelf = StoredCode if settings.code_from == "store" else CodeShelf
    layer_shelf = StoredLayers if settings.code_from == "store" else LayerShelf
    jobs = JobSender(broker_of(settings.broker_url, settings.redis_url))
    parts = Parts(
        registry=registry,
        keys=RedisKeys(link, vault),
        code=shelf(state_dir, objects, admin),
        layers=layer_shelf(state_dir, RedisLayers(link), jobs, settings.unused_layer_ms, objects),
        store=admin,
        runtimes=(DEFAULT_RUNTIME,),
        platform=sysconfig.get_platform(),
        now_ms=_wall_ms,
    )
    follower = Follower(registry, Reconciler(parts), _steady_ms, random.random)
    async with asyncio.TaskGroup() as group:
        group.create_task(follower.run())
        group.create_task(tell_conditions(RedisConditions(link), admin))
        group.create_task(repair(settings, link, registry, admin).run())


def repair(settings: Settings, link: RedisLink, registry: RedisRegistry, admin: S3Admin) -> Repair:
    """What sweeps buckets for objects that nobody announced."""
    ledger = RedisQueue(link, settings.tenant, "controller", settings.dedupe_ms)
    inbox, listing = RedisInbox(link, "controller"), S3Listing.of(settings)
    sweeper = Sweeper(registry.all, listing, ledger, inbox, settings.dedupe_ms, _wall_ms)
    uptimes = partial(asyncio.to_thread, admin.uptimes)
    return Repair(sweeper, RedisSweeps(link), uptimes, settings.sweep_every_ms / 1000, _wall_ms, time.monotonic)


async def opened(redis_url: str) -> RedisLink:
    """A link to Redis, once it is there."""
    pause_s = 0.1
    while True:
        try:
            return await RedisLink.open(redis_url)
        except StoreUnavailable as trouble:
            log.warning("waiting for Redis", extra={"reason": str(trouble)})
        await asyncio.sleep(pause_s)
        pause_s = min(LAST_PAUSE_S, pause_s * 2)


async def tell_conditions(conditions: RedisConditions, admin: S3Admin) -> None:
    """Says every few seconds that the controller runs, and whether MinIO answers."""
    while True:
        with suppress(StoreUnavailable):
            await conditions.tell("controller", Condition(True, "", _wall_ms()))
            await conditions.tell("minio", await _condition(lambda: asyncio.to_thread(admin.buckets)))
        await asyncio.sleep(CONDITIONS_S)


async def _condition(probe: Callable[[], Awaitable[object]]) -> Condition:
    try:
        await probe()
    except OkibaError as trouble:
        return Condition(False, str(trouble), _wall_ms())
    return Condition(True, "", _wall_ms())


async def main() -> int:
    """Runs until SIGTERM or SIGINT; the process's exit status."""
    settings = Settings.from_environment(os.environ)
    log_to_stderr(settings.log_level)
    task = asyncio.ensure_future(run(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    return 0


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
