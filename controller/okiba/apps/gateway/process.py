"""The gateway, put together: adapters meet the flow here and nowhere else.

Start: link to Redis → catalogue → functions that are ours taken → ports open → fleet link up. Each step waits for what
it needs for as long as it takes; /readyz says yes once the process can take calls. End: functions handed over, calls
answered, goodbye.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sysconfig
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Final

from okiba.adapters.fleet_link import FleetLink
from okiba.adapters.local_python import installed_runtimes
from okiba.adapters.peer_http import PeerLink
from okiba.adapters.redis_fleet import RedisFleet
from okiba.adapters.redis_inbox import RedisInbox
from okiba.adapters.redis_layers import RedisLayers
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_logs import RedisLogs
from okiba.adapters.redis_owners import EPOCH, RedisOwners
from okiba.adapters.redis_queue import RedisQueue
from okiba.adapters.redis_registry import RedisKeys, RedisRegistry
from okiba.adapters.redis_sweeps import RedisSweeps
from okiba.adapters.s3_payloads import S3Payloads
from okiba.adapters.s3_store import S3Store
from okiba.adapters.slot_opener import HttpSlotOpener
from okiba.adapters.slot_parts import parts_for
from okiba.adapters.vault import Vault
from okiba.apps.gateway import overview
from okiba.apps.gateway.access import Access
from okiba.apps.gateway.admin import AdminApp
from okiba.apps.gateway.control import ControlServices, control_app
from okiba.apps.gateway.drains import Drains
from okiba.apps.gateway.invoke import InvokeApi
from okiba.apps.gateway.loans import Loans
from okiba.apps.gateway.metrics import Metrics
from okiba.apps.gateway.peers import PeerApp
from okiba.apps.gateway.public import PublicApp
from okiba.apps.gateway.runs import Elsewhere, Runs
from okiba.apps.gateway.server import Server
from okiba.core.errors import NotOwner, PlatformError, StoreUnavailable
from okiba.core.function import Function
from okiba.core.membership import Member, Roll
from okiba.core.names import Home
from okiba.core.retry import RetryPolicy
from okiba.core.slot_kind import kinds_for
from okiba.flow.catalogue import Catalogue
from okiba.flow.dispatch import Dispatcher, Drain
from okiba.flow.ingest import Ingest
from okiba.flow.inherit import Inheritance
from okiba.flow.lend import LendingScaler
from okiba.flow.own import Ownership
from okiba.flow.route import Router
from okiba.flow.scale import ScalePolicy
from okiba.settings import Settings

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.2
LEAST_S: Final = 1.0
"""What running calls have to end in however long it took to hand functions over."""

FLEET_S: Final = 3.0
"""How long Kubernetes may take to say why a container has ended (about 1 s, measured)."""

NOBODYS: Final = -1
"""No function's epoch."""

LEAVE_S: Final = 2.0
"""How long a gateway that leaves still takes calls, and passes them on: until whoever sends them knows."""


class Gateway:
    """One gateway process.

    Args:
        link: To Redis, answered at least once.
        life: This life's number among all gateways' lives.
    """

    def __init__(self, settings: Settings, link: RedisLink, life: int) -> None:
        self._settings = settings
        self.link = link
        self.metrics = Metrics()
        vault = Vault(settings.platform_key)
        self.registry = RedisRegistry(link, vault, settings.tenant)
        self.keys = RedisKeys(link, vault)
        self.catalogue = Catalogue(self.registry, self.keys)
        me = Member(settings.gateway_name or "gateway", settings.gateway_peer_address, life)
        self.held: dict[str, int] = {}
        self.inbox = RedisInbox(link, me.name)
        payloads = S3Payloads(S3Store.of(settings))
        self.queue = RedisQueue(
            link, settings.tenant, me.name, settings.dedupe_ms, payloads, lambda name: self.held.get(name, NOBODYS)
        )
        self.logs = RedisLogs(link, settings.tenant, settings.log_bytes)
        self.layers = RedisLayers(link)
        self.home = Home(settings.region, settings.account_id)
        self._records = RedisFleet(link)
        self.fleet = FleetLink(settings.fleet_address, me.name, life, settings.platform_key, self._leader)
        self.opener = self._opener()
        self.scaler = self._scaler()
        self.dispatcher = Dispatcher(self.scaler, time.time, self.metrics.attempts.count)
        self.drains = Drains(self.queue, self._drain, self._show_depths)
        self.scaler.on_adopted = self.drains.adopted
        self.scaler.on_refused = self._refused
        self.owners = RedisOwners(link, settings.tenant)
        self.peers = PeerLink(me.name, settings.platform_key)
        self.ownership = Ownership(
            Roll(me),
            self.owners,
            self.peers,
            self.fleet,
            self.scaler,
            self.drains,
            self.catalogue.names,
            self._timeout_s,
            time.monotonic,
            self.held,
        )
        self.loans = Loans(self.scaler, self.peers, self.ownership.roll)
        self.leaving = False
        self.catalogue.on_change = self._function_changed
        self.router = Router(
            self.inbox, self.queue, self.catalogue.functions_of_bucket, self._woken, _now_ms, settings.region
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._shown: set[str] = set()
        self._rebirth = asyncio.Lock()

    def _opener(self) -> HttpSlotOpener:
        settings = self._settings
        store = settings.s3_function_endpoint or settings.s3_endpoint
        gateway = settings.gateway_function_endpoint or f"http://{settings.gateway_address}"
        endpoints = {"AWS_ENDPOINT_URL": gateway, "AWS_ENDPOINT_URL_S3": store}
        return HttpSlotOpener(
            self._epoch,
            settings.platform_key,
            parts_for(settings, self.layers.archive),
            self.home,
            self.catalogue.principal_of_function,
            endpoints,
            self.logs,
            self._learned,
            FLEET_S if settings.fleet == "kubernetes" else 0.0,
        )

    def _scaler(self) -> LendingScaler:
        settings = self._settings
        policy = ScalePolicy(
            settings.default_concurrency,
            settings.async_width,
            settings.slot_wait_ms,
            settings.idle_slot_ms,
            settings.max_slots,
            spare=min(settings.warm_slots, settings.max_slots // 4),
        )
        kinds = partial(kinds_for, by_memory=settings.fleet == "kubernetes")
        return LendingScaler(self.fleet, self.opener, self.catalogue.invocable, policy, self.held.get, kinds)

    def _epoch(self, name: str) -> int:
        epoch, borrowed = self.held.get(name), self.scaler.borrowed.get(name)
        if epoch is None and borrowed is None:
            raise NotOwner(f"function {name} is another gateway's")
        return epoch or (borrowed.slots.epoch if borrowed else 0)

    def _timeout_s(self, name: str) -> float:
        function = self.catalogue.invocable(name)
        return function.timeout_s if function else 0

    async def _leader(self) -> tuple[str, int] | None:
        record = await self._records.read()
        return (record.address, record.epoch) if record else None

    def _drain(self, name: str, inheritance: Inheritance) -> Drain:
        policy = RetryPolicy(self._settings.retry_delays)
        return Drain(
            name,
            self.catalogue.invocable,
            self.home.arn,
            self.queue,
            self.dispatcher,
            self.scaler,
            policy,
            time.time,
            inheritance,
        )

    # --- applications -----------------------------------------------------------------------------------------------

    def public_app(self) -> PublicApp:
        """The public port's application."""
        access = Access(self.catalogue, self._settings.require_signatures, time.time, self._settings.region)
        runs = self._runs()
        borrowed, wait_ms = self.scaler.borrowed, self._settings.slot_wait_ms
        elsewhere = Elsewhere(self.ownership, self.peers, runs, borrowed, self.loans, wait_ms)
        invoke = InvokeApi(self.catalogue, access, self.held, runs, elsewhere, self.queue, self.home, self._woken)
        return PublicApp(invoke, control_app(self._services()), access)

    def _runs(self) -> Runs:
        return Runs(self.dispatcher, self.opener, lambda name: self.metrics.throttles.labels(name).inc())

    def _services(self) -> ControlServices:
        settings = self._settings
        platform = sysconfig.get_platform()
        return ControlServices(
            settings=settings,
            registry=self.registry,
            keys=self.keys,
            queue=self.queue,
            logs=self.logs,
            inbox=self.inbox,
            store=S3Store.of(settings),
            sweeps=RedisSweeps(self.link),
            spool=settings.state_dir / "spool" / self.ownership.roll.me.name,
            runtimes=installed_runtimes if settings.fleet == "local" else lambda: settings.slot_runtimes,
            machine="arm64" if platform.endswith("aarch64") else "x86_64",
            platform=platform,
            layer=self.layers.read,
            status=lambda: overview.status(self),
            recent=self.recent,
            wake=self._woken,
            changed=self.catalogue.refresh,
            now_ms=_now_ms,
        )

    def admin_app(self) -> AdminApp:
        """The admin port's application."""
        ingest = Ingest(self.inbox, _now_ms)
        peers = PeerApp(
            self._settings.platform_key,
            self.ownership,
            self.catalogue,
            self.scaler,
            self._runs(),
            self.loans,
            self.states,
            self.drains.wake,
        )
        return AdminApp(
            ingest, self._settings.webhook_token, self.metrics, self._is_ready, self._refresh_metrics, peers
        )

    def _is_ready(self) -> bool:
        return self.catalogue.loaded.is_set() and not self.leaving

    # --- running ----------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """The catalogue is loaded and functions that are ours are taken; waits for the store as long as it takes."""
        while True:
            try:
                await self.catalogue.load()
                await self.ownership.look()
            except StoreUnavailable as error:
                log.warning("waiting for the store", extra={"reason": str(error)})
                await asyncio.sleep(PAUSE_S)
            else:
                return

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs for as long as the process does."""
        return [
            self.catalogue.follow(),
            self.router.run(),
            self.drains.look(),
            self.ownership.run(),
            self.loans.run(),
            self.scaler.reap(),
            self.fleet.run(self.scaler),
        ]

    async def leave(self, servers: Sequence[Server]) -> None:
        """Everything is finished or in other hands when this returns."""
        self.leaving = True
        public, admin = servers
        over_s = time.monotonic() + self._settings.grace_ms / 1000
        # Said with each answer from now on. A connection that is closed while it is idle may have a call on its way: of
        # 3,315 calls during an upgrade one ended so.
        public.closing = True
        if not self.ownership.roll.me.address:
            await _stop(over_s, public, admin)
            await self._retreat()
        elif await self._retreat():
            await asyncio.sleep(LEAVE_S)
            await _stop(over_s, public)
            await _stop(over_s, admin)  # others' calls came over it until now
        else:
            await _stop(over_s, public, admin)
        await self.fleet.leave()
        with contextlib.suppress(StoreUnavailable):
            await self.owners.leave(self.ownership.roll.me)
        self.peers.close()

    async def _retreat(self) -> bool:
        self.scaler.return_all()
        try:
            return await self.ownership.retreat()
        except StoreUnavailable as error:
            log.warning("functions could not be handed over", extra={"reason": str(error)})
            return False

    # --- what happens -----------------------------------------------------------------------------------------------

    def _woken(self, name: str) -> None:
        if not self.drains.wake(name):
            self.ownership.wake(name)

    def _function_changed(self, name: str, function: Function | None) -> None:
        invocable = self.catalogue.invocable(name)
        if function is None:
            self.scaler.function_deleted(name)
            self.metrics.forget(name)
            self.dispatcher.forget(name)
            self._spawn(self._deleted(name))
            return
        if invocable is not None:
            self.scaler.function_changed(invocable)
        if not self.drains.wake(name):
            self.ownership.look_at(name)

    async def _deleted(self, name: str) -> None:
        with contextlib.suppress(StoreUnavailable):
            if await self.ownership.function_deleted(name):
                self.drains.forget(name)

    def _refused(self) -> None:
        if not self._rebirth.locked():
            self._spawn(self._reborn())

    async def _reborn(self) -> None:
        async with self._rebirth:
            with contextlib.suppress(StoreUnavailable):  # refused again, and tried again
                await self.ownership.reborn()
                self.fleet.reborn(self.ownership.roll.me.life)

    def _learned(self, layer_hash: str, modules: tuple[str, ...]) -> None:
        self._spawn(self._write_learned(layer_hash, modules))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write_learned(self, layer_hash: str, modules: tuple[str, ...]) -> None:
        with contextlib.suppress(PlatformError):  # the next slot will tell again
            await self.layers.learned(layer_hash, modules)

    def states(self) -> dict[str, dict[str, Any]]:
        """What this gateway has: slots by function and state, warm ones by kind."""
        return {"slots": self.scaler.states(), "warm": self.fleet.warm()}

    # --- numbers ----------------------------------------------------------------------------------------------------

    def _show_depths(self, depths: dict[str, tuple[int, int]]) -> None:
        for name, (depth, age_ms) in depths.items():
            self.metrics.queue_depth.labels(name).set(depth)
            self.metrics.queue_age.labels(name).set(age_ms / 1000)

    def _refresh_metrics(self) -> None:
        metrics = self.metrics
        for name in self._shown - self.held.keys():
            metrics.not_here(name)
        self._shown = set(self.held)
        metrics.store_up.set(self.link.healthy)
        metrics.routed(self.router.counts)
        for name, states in self.scaler.states().items():
            for state, count in states.items():
                metrics.slots.labels(name, state).set(count)
        metrics.warm(self.fleet.warm())

    def recent(self, name: str) -> list[dict[str, object]]:
        """The last invocations of a function that ran here, as the API shows them."""
        return [
            {
                **ran._asdict(),
                "started_ms": ran.finished_ms - ran.duration_us / 1000,
                "cold": ran.init_us is not None,
            }
            for ran in self.dispatcher.recent(name)
        ]


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Runs a gateway until told to stop; whoever is being answered then is answered still, for up to 10 s."""
    link, life = await _first_contact(settings)
    gateway = Gateway(settings, link, life)
    servers = [
        Server(gateway.public_app(), settings.gateway_address),
        Server(gateway.admin_app(), settings.admin_address),
    ]
    await gateway.load()
    async with asyncio.TaskGroup() as group:
        background = [group.create_task(coroutine) for coroutine in gateway.background()]
        background += [group.create_task(server.sweep()) for server in servers]
        for server in servers:
            await server.start()
        await stop.wait()
        await gateway.leave(servers)
        for task in background:
            task.cancel()
    await link.close()


async def _stop(over_s: float, *servers: Server) -> None:
    """Those who are being answered have until then, by the steady clock."""
    left_s = max(LEAST_S, over_s - time.monotonic())
    await asyncio.gather(*(server.stop(left_s) for server in servers))


async def _first_contact(settings: Settings) -> tuple[RedisLink, int]:
    while True:
        try:
            link = await RedisLink.open(settings.redis_url)
            return link, int(await link.call("INCR", EPOCH))
        except StoreUnavailable as error:
            log.warning("waiting for Redis", extra={"reason": str(error)})
            await asyncio.sleep(PAUSE_S)


def _now_ms() -> int:
    return int(time.time() * 1000)


def settings_from_environment() -> Settings:
    """The process's settings.

    Raises:
        InvalidParameter: Signatures are off on a port that others can reach, or a value does not fit.
    """
    settings = Settings.from_environment(os.environ)
    settings.check_loopback()
    return settings
