"""The jobs process, `python -m okiba.apps.jobs`: Celery's worker and beat, in one process with threads; or only one of
them, `worker` or `beat` as its argument, where there are several workers and one beat.

    build_layer HASH     builds a layer that an intent in Redis describes
    reissue_intents      every 30 s: sends what is wanted again, since a task may be lost
    retention            every hour: quarantine and dead letters older than 14 days go, and what nothing refers to
    canary               every 15 s: shows that tasks still arrive; if they wait for 60 s the process ends with 70

It ends at once when told to: whatever ran is sent again, and pip dies with this process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

import redis
from celery import Celery, signals
from celery.apps.worker import Worker
from celery.beat import Scheduler, Service

from okiba.adapters.celery_broker import broker_of
from okiba.adapters.celery_jobs import BUILD_LAYER, QUEUE, jobs_app
from okiba.adapters.layer_cache import LayerCache
from okiba.adapters.layer_pip import LayerBuilder
from okiba.adapters.layer_store import LayerStore
from okiba.adapters.local_python import find_interpreter
from okiba.adapters.payload_sweep import PayloadSweep
from okiba.adapters.redis_client import client_of
from okiba.adapters.redis_conditions import KEY as CONDITIONS
from okiba.adapters.redis_conditions import PERIODS_S, Condition, encoded
from okiba.adapters.redis_layers import LayerBook
from okiba.adapters.s3_store import S3Store
from okiba.apps.journal import log_to_stderr
from okiba.apps.local.tools import cache_dir
from okiba.core.errors import InvalidParameter, PlatformError
from okiba.core.layer import LayerArchive, LayerIntent, LayerPhase
from okiba.core.liveness import Liveness
from okiba.settings import Settings

log = logging.getLogger(__name__)

THREADS: Final = 2
"""Two layers at a time; what they do is wait for pip."""

CANARY_S: Final = PERIODS_S["jobs"]
REISSUE_S: Final = 30.0
RETENTION_S: Final = 3_600.0
KEPT_MS: Final = 14 * 24 * 3_600_000
WATCH_S: Final = 5.0
REDIS_S: Final = 5.0
BROKER_S: Final = 2.0
GOODBYE_S: Final = 1.0

DEAF: Final = 70
"""Exit status of a worker that no longer hears its broker (EX_SOFTWARE); the supervisor starts another."""


class Jobs:
    """What the tasks do; each may be run at any time, twice at a time, and any number of times.

    Args:
        sweeps: Each removes what nothing refers to any more, given the wall clock in ms.
        ship: Brings a built layer to where slots fetch it from; None where they share its folder.
    """

    def __init__(
        self,
        client: redis.Redis,
        builder: LayerBuilder,
        tenant: str,
        now_ms: Callable[[], int],
        sweeps: Sequence[Callable[[int], object]] = (),
        ship: Callable[[LayerIntent], LayerArchive] | None = None,
    ) -> None:
        self._client = client
        self._builder = builder
        self._book = LayerBook(client)
        self._tenant = tenant
        self._now_ms = now_ms
        self._sweeps = sweeps
        self._ship = ship

    def build_layer(self, layer_hash: str) -> None:
        """Builds a layer that is wanted and due; nothing when it is not, or when another job has begun."""
        intent = self._book.read(layer_hash)
        if intent is None or intent.due_ms > self._now_ms() or intent.phase in (LayerPhase.READY, LayerPhase.FAILED):
            return
        try:
            if self._built(intent):
                archive = self._ship(intent) if self._ship else None
                self._book.ready(layer_hash, self._now_ms(), archive)
                log.info("layer ready", extra={"layer": layer_hash})
        except InvalidParameter as refusal:
            self._book.failed(layer_hash, str(refusal), self._now_ms())
            log.warning("layer refused", extra={"layer": layer_hash, "reason": str(refusal)})
        except (PlatformError, OSError) as trouble:
            self._book.postpone(intent, str(trouble), self._now_ms())
            log.warning("layer postponed", extra={"layer": layer_hash, "reason": str(trouble)})

    def due_layers(self) -> list[str]:
        """Layers whose building should be under way."""
        return [intent.layer.hash for intent in self._book.open_intents() if intent.due_ms <= self._now_ms()]

    def retain(self) -> None:
        """Trims what is kept for people to look at."""
        oldest = f"{self._now_ms() - KEPT_MS}-0"
        self._client.xtrim("okiba:quarantine", minid=oldest, approximate=False)
        names: Any = self._client.smembers("okiba:functions")
        for name in names:
            self._client.xtrim(f"okiba:{{{self._tenant}/{name.decode()}}}:dead", minid=oldest, approximate=False)
        for sweep in self._sweeps:
            try:
                sweep(self._now_ms())
            except (PlatformError, OSError) as trouble:  # one that fails is no reason to leave the others undone
                log.warning("a sweep failed", extra={"reason": str(trouble)})

    def report(self) -> None:
        """Says that tasks arrive."""
        with suppress(redis.RedisError):
            self._client.hset(CONDITIONS, "jobs", encoded(Condition(True, "", self._now_ms())))

    def _built(self, intent: LayerIntent) -> bool:
        layer = intent.layer
        return self._builder.build(
            layer,
            intent.runtime,
            say=lambda line: self._note(self._book.progress, layer.hash, line),
            begun=lambda: self._note(self._book.building, layer.hash, self._now_ms()),
        )

    def _note(self, write: Callable[..., None], *arguments: object) -> None:
        """Redis being away is no reason to stop a build."""
        with suppress(PlatformError):
            write(*arguments)


def register(app: Celery, jobs: Jobs) -> None:
    """Makes the tasks known to Celery."""

    @app.task(name=BUILD_LAYER)
    def build_layer(layer_hash: str) -> None:
        jobs.build_layer(layer_hash)

    @app.task(name="okiba.reissue_intents")
    def reissue_intents() -> None:
        for layer_hash in jobs.due_layers():
            build_layer.apply_async((layer_hash,), retry=False)

    @app.task(name="okiba.retention")
    def retention() -> None:
        jobs.retain()

    @app.task(name="okiba.canary")
    def canary() -> None:
        jobs.report()

    @signals.worker_ready.connect(weak=False)
    def ready(**_: object) -> None:
        for name in ("okiba.canary", "okiba.reissue_intents"):  # beat's first come after a whole period
            app.send_task(name, queue=QUEUE)


def beat_of(app: Celery) -> Service:
    """What sends the tasks when they are due; to be started, which lasts until the process ends."""
    periods = {"okiba.canary": CANARY_S, "okiba.reissue_intents": REISSUE_S, "okiba.retention": RETENTION_S}
    app.conf.beat_schedule = {
        # Expired, so that a worker which was away finds one of a kind in the queue and not a thousand.
        name: {"task": name, "schedule": period, "options": {"expires": period}}
        for name, period in periods.items()
    }
    # In memory: every task is due at the start anyway, and a file would be one more thing to lose.
    return Service(app, scheduler_cls=Scheduler)


def watch(liveness: Liveness, broker: redis.Redis) -> NoReturn:
    """Ends the process when its worker has gone deaf; runs in a thread of its own."""
    while True:
        time.sleep(WATCH_S)
        now = time.monotonic()
        try:
            waiting = broker.llen(QUEUE)
        except redis.RedisError:
            liveness.broker_away(now)
        else:
            # Other workers may take all canaries, or beat be away: that makes no worker deaf.
            if not waiting:
                liveness.nothing_waits(now)
        if liveness.deaf(now):
            log.error("no task arrives though the broker answers: ending, to be started again")
            os._exit(DEAF)


def listen(liveness: Liveness) -> None:
    """Lets Celery's signals tell of every task and of the end."""

    # Celery keeps weak references to receivers unless told otherwise.
    @signals.task_prerun.connect(weak=False)
    def began(**_: object) -> None:
        liveness.began()

    @signals.task_postrun.connect(weak=False)
    def ended(**_: object) -> None:
        liveness.ended(time.monotonic())

    @signals.worker_shutting_down.connect(weak=False)
    def leaving(**_: object) -> None:
        goodbye = threading.Timer(GOODBYE_S, os._exit, [0])
        goodbye.daemon = True
        goodbye.start()


def main(part: str = "") -> int:
    """Runs until told to end; the process's exit status.

    Args:
        part: `worker` or `beat`, to be that alone; empty: both.
    """
    if part not in ("", "worker", "beat"):
        sys.exit(f"okiba jobs: the part must be worker or beat, got {part!r}")
    settings = Settings.from_environment(os.environ)
    log_to_stderr(settings.log_level)
    logging.getLogger("celery").setLevel(logging.WARNING)  # at `info` it writes four lines a canary
    broker = broker_of(settings.broker_url, settings.redis_url)
    app = jobs_app(broker)
    if part == "beat":
        beat_of(app).start()
        return 0
    if not part:
        threading.Thread(target=beat_of(app).start, name="beat", daemon=True).start()
    return _work(app, _jobs(settings), broker.client(BROKER_S))


def _work(app: Celery, jobs: Jobs, broker: redis.Redis) -> int:
    """The worker, until it ends; its exit status."""
    register(app, jobs)
    liveness = Liveness(time.monotonic())
    listen(liveness)
    threading.Thread(target=watch, args=(liveness, broker), daemon=True).start()
    worker = Worker(
        app=app,
        pool="threads",
        concurrency=THREADS,
        queues=[QUEUE],
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _jobs(settings: Settings) -> Jobs:
    client = client_of(settings.redis_url, REDIS_S)
    store, state_dir = S3Store.of(settings), settings.state_dir.absolute()
    payloads = PayloadSweep(client, store, settings.tenant).run
    if settings.code_from == "store":
        builder = LayerBuilder(state_dir, find_interpreter, os.environ)
        layers = LayerStore(state_dir, store, find_interpreter)
        return Jobs(client, builder, settings.tenant, _now_ms, (payloads, layers.trim), layers.ship)
    cache = cache_dir(os.environ) / "layers"
    builder = LayerBuilder(state_dir, find_interpreter, os.environ, cache=cache)
    return Jobs(client, builder, settings.tenant, _now_ms, (payloads, LayerCache(cache, state_dir).trim))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
