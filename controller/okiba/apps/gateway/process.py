"""The gateway, put together: adapters meet the flow here and nowhere else.

Start: link to Redis → catalogue → inherited work leased → ports open → fleet link up. Each step waits for what it
needs for as long as it takes; /readyz says yes once the process can take calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sysconfig
import time
from collections.abc import Coroutine
from typing import Any, Final

from okiba.adapters.fleet_link import FleetLink
from okiba.adapters.local_python import installed_runtimes
from okiba.adapters.redis_inbox import RedisInbox
from okiba.adapters.redis_layers import RedisLayers
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_logs import RedisLogs
from okiba.adapters.redis_queue import RedisQueue
from okiba.adapters.redis_registry import RedisKeys, RedisRegistry
from okiba.adapters.s3_store import S3Store
from okiba.adapters.slot_opener import HttpSlotOpener
from okiba.adapters.vault import Vault
from okiba.apps.gateway import overview
from okiba.apps.gateway.access import Access
from okiba.apps.gateway.admin import AdminApp
from okiba.apps.gateway.control import ControlServices, control_app
from okiba.apps.gateway.drains import Drains
from okiba.apps.gateway.invoke import InvokeApi
from okiba.apps.gateway.metrics import Metrics
from okiba.apps.gateway.public import PublicApp
from okiba.apps.gateway.server import Server
from okiba.core.errors import PlatformError, StoreUnavailable
from okiba.core.function import Function
from okiba.core.names import Home
from okiba.core.retry import RetryPolicy
from okiba.flow.catalogue import Catalogue
from okiba.flow.dispatch import Dispatcher, Drain
from okiba.flow.ingest import Ingest
from okiba.flow.route import Router
from okiba.flow.scale import ScalePolicy, Scaler
from okiba.settings import Settings

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.2
GRACE_S: Final = 10


class Gateway:
    """One gateway process.

    Args:
        link: To Redis, answered at least once.
        epoch: This life's number; slots refuse earlier ones.
    """

    def __init__(self, settings: Settings, link: RedisLink, epoch: int) -> None:
        self._settings = settings
        self.link = link
        self.metrics = Metrics()
        vault = Vault(settings.platform_key)
        self.registry = RedisRegistry(link, vault, settings.tenant)
        self.keys = RedisKeys(link, vault)
        self.catalogue = Catalogue(self.registry, self.keys)
        self.inbox = RedisInbox(link)
        self.queue = RedisQueue(link, settings.tenant, "gateway", settings.dedupe_ms)
        self.logs = RedisLogs(link, settings.tenant, settings.log_bytes)
        self.layers = RedisLayers(link)
        self.home = Home(settings.region, settings.account_id)
        self.fleet = FleetLink(settings.fleet_address, "gateway", epoch, settings.platform_key)
        self.opener = self._opener(epoch)
        self.scaler = self._scaler()
        self.dispatcher = Dispatcher(self.scaler, time.time, self.metrics.ran)
        self.drains = Drains(self.queue, self._drain, self._show_depths)
        self.scaler.on_adopted = self.drains.adopted
        self.catalogue.on_change = self._function_changed
        self.router = Router(
            self.inbox, self.queue, self.catalogue.functions_of_bucket, self.drains.wake, _now_ms, settings.region
        )
        self._learning: set[asyncio.Task[None]] = set()

    def _opener(self, epoch: int) -> HttpSlotOpener:
        settings = self._settings
        store = settings.s3_function_endpoint or settings.s3_endpoint
        endpoints = {"AWS_ENDPOINT_URL": f"http://{settings.gateway_address}", "AWS_ENDPOINT_URL_S3": store}
        return HttpSlotOpener(
            epoch,
            settings.platform_key,
            settings.state_dir,
            self.home,
            self.catalogue.principal_of_function,
            endpoints,
            self.logs,
            self._learned,
        )

    def _scaler(self) -> Scaler:
        settings = self._settings
        policy = ScalePolicy(
            settings.default_concurrency,
            settings.async_width,
            settings.slot_wait_ms,
            settings.idle_slot_ms,
            settings.max_slots,
        )
        return Scaler(self.fleet, self.opener, self.catalogue.invocable, policy)

    def _drain(self, name: str) -> Drain:
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
        )

    # --- applications -----------------------------------------------------------------------------------------------

    def public_app(self) -> PublicApp:
        """The public port's application."""
        access = Access(self.catalogue, self._settings.require_signatures, time.time, self._settings.region)
        invoke = InvokeApi(
            self.catalogue,
            access,
            self.dispatcher,
            self.queue,
            self.home,
            self.opener,
            self.drains.wake,
            lambda name: self.metrics.throttles.labels(name).inc(),
        )
        return PublicApp(invoke, control_app(self._services()), access)

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
            spool=settings.state_dir / "spool",
            runtimes=installed_runtimes,
            machine="arm64" if platform.endswith("aarch64") else "x86_64",
            platform=platform,
            layer=self.layers.read,
            status=lambda: overview.status(self),
            recent=self.recent,
            changed=self.catalogue.refresh,
            now_ms=_now_ms,
        )

    def admin_app(self) -> AdminApp:
        """The admin port's application."""
        ingest = Ingest(self.inbox, _now_ms)
        return AdminApp(
            ingest, self._settings.webhook_token, self.metrics, self.catalogue.loaded.is_set, self._refresh_metrics
        )

    # --- running ----------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """The catalogue is loaded and inherited work leased again; waits for the store as long as it takes."""
        while True:
            try:
                await self.catalogue.load()
                await self.drains.recover([function.name for function in self.catalogue.functions()])
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
            self.scaler.reap(),
            self.fleet.run(self.scaler),
        ]

    def _function_changed(self, name: str, function: Function | None) -> None:
        invocable = self.catalogue.invocable(name)
        if function is None:
            self.scaler.function_deleted(name)
            self.metrics.forget(name)
        elif invocable is not None:
            self.scaler.function_changed(invocable)
        if self.catalogue.loaded.is_set():
            self.drains.function_changed(name, function)

    def _learned(self, layer_hash: str, modules: tuple[str, ...]) -> None:
        task = asyncio.get_running_loop().create_task(self._write_learned(layer_hash, modules))
        self._learning.add(task)
        task.add_done_callback(self._learning.discard)

    async def _write_learned(self, layer_hash: str, modules: tuple[str, ...]) -> None:
        with contextlib.suppress(PlatformError):  # the next slot will tell again
            await self.layers.learned(layer_hash, modules)

    # --- numbers ----------------------------------------------------------------------------------------------------

    def _show_depths(self, depths: dict[str, tuple[int, int]]) -> None:
        for name, (depth, age_ms) in depths.items():
            self.metrics.queue_depth.labels(name).set(depth)
            self.metrics.queue_age.labels(name).set(age_ms / 1000)

    def _refresh_metrics(self) -> None:
        metrics = self.metrics
        metrics.store_up.set(self.link.healthy)
        metrics.routed(self.router.counts)
        for name, states in self.scaler.states().items():
            for state, count in states.items():
                metrics.slots.labels(name, state).set(count)
        for kind, count in self.fleet.warm().items():
            metrics.warm_slots.labels(kind).set(count)

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
    link, epoch = await _first_contact(settings)
    gateway = Gateway(settings, link, epoch)
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
        await asyncio.gather(*(server.stop(GRACE_S) for server in servers))
        for task in background:
            task.cancel()
    await link.close()


async def _first_contact(settings: Settings) -> tuple[RedisLink, int]:
    while True:
        try:
            link = await RedisLink.open(settings.redis_url)
            return link, int(await link.call("INCR", "okiba:epoch"))
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
