"""What the leading controller does on Kubernetes: keeps the fleet, prepares functions, and says how it goes."""

from __future__ import annotations

import asyncio
import sysconfig
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from okiba.adapters.kube_api import KubeApi
from okiba.adapters.kube_pods import PodChoices
from okiba.adapters.redis_conditions import PERIODS_S, Condition, RedisConditions
from okiba.adapters.redis_layers import RedisLayers
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_logs import RedisLogs
from okiba.adapters.redis_queue import RedisQueue
from okiba.adapters.redis_registry import RedisKeys, RedisRegistry
from okiba.adapters.s3_store import S3Store
from okiba.adapters.slot_parts import parts_for
from okiba.adapters.vault import Vault
from okiba.apps.kube.fleet import KubeFleet
from okiba.apps.kube.functions import FunctionObjects, Surroundings
from okiba.apps.kube.metrics import ControllerMetrics
from okiba.apps.kube.needs import KubeNeeds
from okiba.apps.kube.packages import Packages
from okiba.apps.kube.term import serve_terms
from okiba.core.errors import StoreUnavailable
from okiba.settings import Settings


async def lead(settings: Settings, link: RedisLink, prepare: Callable[[], Awaitable[None]]) -> None:
    """Does the leader's work whenever this controller leads; for ever, until cancelled.

    Args:
        prepare: Prepares functions, until cancelled.
    """
    choices = PodChoices.read(settings.slot_image, settings.slot_pod)
    metrics = ControllerMetrics(link)
    await serve_terms(settings, link, partial(_work, settings, link, choices, prepare, metrics), metrics.page)


async def _work(
    settings: Settings,
    link: RedisLink,
    choices: PodChoices,
    prepare: Callable[[], Awaitable[None]],
    metrics: ControllerMetrics,
    api: KubeApi,
) -> None:
    vault = Vault(settings.platform_key)
    registry = RedisRegistry(link, vault, settings.tenant)
    layers, store = RedisLayers(link), S3Store.of(settings)
    needs = KubeNeeds(settings, registry, layers, parts_for(settings, layers.archive).ahead)
    fleet = KubeFleet(settings, api, needs, choices)
    platform = sysconfig.get_platform()
    around = Surroundings(
        registry=registry,
        keys=RedisKeys(link, vault),
        queue=RedisQueue(link, settings.tenant, "controller", settings.dedupe_ms),
        logs=RedisLogs(link, settings.tenant, settings.log_bytes),
        packages=Packages(store, lambda name: api.call(api.config_map, name)),
        make_bucket=lambda bucket: asyncio.to_thread(store.create_bucket, bucket),
        machine="arm64" if platform.endswith("aarch64") else "x86_64",
        platform=platform,
        slots=fleet.slots_by_function,
        runtimes=settings.slot_runtimes,
    )
    metrics.keeper = fleet
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.run())
            group.create_task(FunctionObjects(api, around).run())
            group.create_task(_prepared(prepare))
            group.create_task(_tell_slots(RedisConditions(link), fleet))
    finally:
        metrics.keeper = None


async def _prepared(prepare: Callable[[], Awaitable[None]]) -> None:
    await prepare()


async def _tell_slots(conditions: RedisConditions, fleet: KubeFleet) -> None:
    """Says whether slots can be made, at once when that changes."""
    told, told_at = "", 0.0
    while True:
        trouble, now = fleet.trouble(), time.monotonic()
        if trouble != told or now - told_at > PERIODS_S["slots"]:
            with suppress(StoreUnavailable):
                condition = Condition(not trouble, trouble or "pods of slots are made", time.time_ns() // 1_000_000)
                await conditions.tell("slots", condition)
                told, told_at = trouble, now
        await asyncio.sleep(1.0)
