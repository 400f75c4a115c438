"""Terms of leadership: a controller that wins the Lease does the leader's work until it has lost it, and tries again.

    win the Lease ──▶ epoch from Redis ──▶ work, renew, tell gateways where ──▶ lost: stop at once ──▶ win the Lease …

The epoch orders terms: gateways never follow a lower one, whatever a former leader still believes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from okiba.adapters.kube_api import KubeApi, own_namespace
from okiba.adapters.kube_lease import Candidate, Leadership
from okiba.adapters.redis_fleet import TELL_S, FleetRecord, RedisFleet
from okiba.adapters.redis_link import RedisLink
from okiba.apps.kube.health import serve_health
from okiba.core.errors import NotLeading, PlatformError, StoreUnavailable
from okiba.settings import Settings

log = logging.getLogger(__name__)

LEASE: Final = "okiba-controller"
PAUSE_S: Final = 1.0

Work = Callable[[KubeApi], Awaitable[None]]


async def serve_terms(settings: Settings, link: RedisLink, work: Work, metrics: Callable[[], bytes]) -> None:
    """Does the work whenever this process leads; for ever, until cancelled.

    Args:
        metrics: What Prometheus is shown at the admin address, beside what the kubelet is.
        work: Begun anew in each term, cancelled at its end. What it sends to the cluster is fenced besides.
    """
    leadership = Leadership()
    api = KubeApi.open(settings.functions_namespace, leadership.check)
    identity = f"{settings.pod_name or socket.gethostname()}_{secrets.token_hex(4)}"
    namespace = settings.pod_namespace or own_namespace()
    candidate = Candidate(api, api.call, namespace, LEASE, identity, leadership)
    health = asyncio.ensure_future(serve_health(settings.admin_address, lambda: leadership.left_s > 0, metrics))
    try:
        while True:
            await candidate.win()
            await _term(settings, RedisFleet(link), candidate, lambda: work(api))
            await asyncio.sleep(PAUSE_S)
    finally:
        health.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                await candidate.give_up()
        api.close()


async def _term(
    settings: Settings, fleet: RedisFleet, candidate: Candidate, work: Callable[[], Awaitable[None]]
) -> None:
    """One term; returns when it is over."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(candidate.keep())
            epoch = await _epoch(fleet)
            log.info("term begins", extra={"epoch": epoch})
            group.create_task(_tell(fleet, settings.fleet_address, epoch))
            group.create_task(_until_done(work))
    except* NotLeading as over:
        log.warning("term over", extra={"reason": str(over.exceptions[0])})
    except* PlatformError as trouble:
        log.warning("term broken off", extra={"reason": str(trouble.exceptions[0])})
    finally:
        candidate.leadership.end()


async def _until_done(work: Callable[[], Awaitable[None]]) -> None:
    await work()
    raise NotLeading("the leader's work has ended by itself")


async def _epoch(fleet: RedisFleet) -> int:
    while True:
        with suppress(StoreUnavailable):
            return await fleet.next_epoch()
        await asyncio.sleep(PAUSE_S)


async def _tell(fleet: RedisFleet, address: str, epoch: int) -> None:
    """Says every second where slots are dealt.

    Raises:
        NotLeading: A later leader has said so.
    """
    while True:
        with suppress(StoreUnavailable):
            await fleet.tell(FleetRecord(address, epoch, time.time_ns() // 1_000_000))
        await asyncio.sleep(TELL_S)
