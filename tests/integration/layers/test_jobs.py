"""The jobs process on a real Valkey, building real layers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from okiba.adapters.celery_broker import broker_of
from okiba.adapters.celery_jobs import QUEUE, JobSender
from okiba.adapters.redis_layers import LayerBook, RedisLayers
from okiba.adapters.redis_link import RedisLink
from okiba.core.layer import LayerPhase, layer_of, layer_packages
from tests.deadline import until
from tests.servers import end, pss_kb
from tests.servers import valkey as start_valkey

HERE = f"python3.{sys.version_info[1]}"
SIX = layer_of("six==1.17.0", HERE, "linux-x86_64")

IDLE_PSS_KB = 80_000
"""A third of what gateway, controller and jobs may take together; 34 MB were measured."""


@contextmanager
def jobs(server, state_dir: Path, **settings: str):
    environment = {
        **os.environ,
        "OKIBA_STATE_DIR": str(state_dir),
        "OKIBA_CACHE_DIR": str(state_dir / "cache"),  # or layers of earlier runs would be found there
        "OKIBA_REDIS_URL": server.url,
        "OKIBA_BROKER_URL": server.broker_url,
        **settings,
    }
    with (state_dir / "jobs.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "okiba.apps.jobs"], env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        end(process)


@pytest.fixture
def book(valkey):
    with redis.Redis(unix_socket_path=valkey.socket) as client:
        yield LayerBook(client)


@pytest.fixture
def silent_index():
    """Settings with which pip waits for an index that never answers, so that a build can be met in its middle."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        yield {"PIP_INDEX_URL": url, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_DEFAULT_TIMEOUT": "60"}


async def want(server, layer):
    link = await RedisLink.open(server.url)
    await RedisLayers(link).want(layer, HERE, now_ms=1)
    await link.close()


def phase(book, layer):
    intent = book.read(layer.hash)
    return intent and intent.phase


async def test_a_wanted_layer_is_built_when_its_job_arrives(valkey, book, tmp_path):
    with jobs(valkey, tmp_path):
        await want(valkey, SIX)
        assert JobSender(broker_of(valkey.broker_url, "")).build_layer(SIX.hash) is True
        until(lambda: phase(book, SIX) is LayerPhase.READY, "the layer")
    assert (tmp_path / layer_packages(SIX.hash) / "six.py").is_file()
    assert book.open_intents() == []


async def test_a_layer_that_does_not_exist_fails_with_the_reason(valkey, book, tmp_path):
    layer = layer_of("no-such-package-of-okiba", HERE, "linux-x86_64")
    await want(valkey, layer)
    with jobs(valkey, tmp_path):
        until(lambda: phase(book, layer) is LayerPhase.FAILED, "the refusal")
    assert "No matching distribution found for no-such-package-of-okiba" in book.read(layer.hash).error
    assert book.open_intents() == []


async def test_an_intent_whose_job_was_lost_is_found_at_the_start(valkey, book, tmp_path):
    await want(valkey, SIX)
    with jobs(valkey, tmp_path):
        until(lambda: phase(book, SIX) is LayerPhase.READY, "the layer")


async def test_a_worker_killed_in_the_middle_of_a_build_leaves_it_to_the_next_one(valkey, book, tmp_path, silent_index):
    await want(valkey, SIX)
    with jobs(valkey, tmp_path, **silent_index) as process:
        until(lambda: phase(book, SIX) is LayerPhase.BUILDING, "the build to begin")
        until(lambda: pips(tmp_path), "pip to run")
        process.kill()
        process.wait()
    until(lambda: not pips(tmp_path), "pip to die with its worker", seconds=10)
    assert phase(book, SIX) is LayerPhase.BUILDING
    with jobs(valkey, tmp_path):
        until(lambda: phase(book, SIX) is LayerPhase.READY, "the next worker to build it")
    assert (tmp_path / layer_packages(SIX.hash) / "six.py").is_file()


async def test_an_index_that_is_away_postpones_the_layer(valkey, book, tmp_path):
    await want(valkey, SIX)
    with jobs(
        valkey, tmp_path, PIP_INDEX_URL="http://127.0.0.1:1/simple", PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS=""
    ):
        until(lambda: book.read(SIX.hash).attempts == 1, "the first attempt to fail")
    intent = book.read(SIX.hash)
    assert (intent.phase, intent.due_ms > intent.changed_ms) == (LayerPhase.WANTED, True)
    assert "six" in intent.error
    assert [open_intent.layer for open_intent in book.open_intents()] == [SIX]


async def test_it_ends_at_once_when_told_to_in_the_middle_of_a_build(valkey, book, tmp_path, silent_index):
    await want(valkey, SIX)
    with jobs(valkey, tmp_path, **silent_index) as process:
        until(lambda: pips(tmp_path), "pip to run")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    until(lambda: not pips(tmp_path), "pip to die with its worker", seconds=10)


async def test_tasks_arrive_again_after_the_broker_was_away(tmp_path):
    (tmp_path / "valkey").mkdir()
    with start_valkey(tmp_path / "valkey") as server, jobs(server, tmp_path) as process:
        client = redis.Redis(unix_socket_path=server.socket)
        until(lambda: client.hget("okiba:conditions", "jobs"), "the first canary")
        server.process.kill()
        server.process.wait()
        with start_valkey(tmp_path / "valkey", socket_path=server.socket) as again:
            await want(again, SIX)
            until(lambda: JobSender(broker_of(again.broker_url, "")).build_layer(SIX.hash), "the broker")
            until(lambda: phase(LayerBook(client), SIX) is LayerPhase.READY, "the layer")
            assert process.poll() is None
            client.close()


async def test_what_people_look_at_is_kept_for_two_weeks(valkey, tmp_path):
    client = redis.Redis(unix_socket_path=valkey.socket)
    client.sadd("okiba:functions", "photo")
    streams = ("okiba:quarantine", "okiba:{default/photo}:dead")
    for stream in streams:
        client.xadd(stream, {"old": "1"}, id="1-0")
        client.xadd(stream, {"new": "1"})
    with jobs(valkey, tmp_path):
        JobSender(broker_of(valkey.broker_url, ""))._app.send_task("okiba.retention", queue=QUEUE)
        until(lambda: [client.xlen(stream) for stream in streams] == [1, 1], "old entries to go")
    client.close()


async def test_idle_it_takes_little_memory(valkey, tmp_path):
    client = redis.Redis(unix_socket_path=valkey.socket)
    with jobs(valkey, tmp_path) as process:
        until(lambda: client.hget("okiba:conditions", "jobs"), "the first canary")
        assert pss_kb(process.pid) < IDLE_PSS_KB
    client.close()


def pips(folder: Path) -> list[int]:
    """Processes whose command line names this test's layers folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder / "layers").encode() in command:
                found.append(int(entry.name))
    return found


def test_a_worker_that_hears_nothing_from_a_broker_that_answers_ends_to_be_started_again(valkey):
    deaf = (
        "import time\n"
        "from okiba.adapters.celery_broker import broker_of\n"
        "from okiba.apps.jobs import watch\n"
        "from okiba.core.liveness import Liveness\n"
        f"watch(Liveness(time.monotonic() - 100), broker_of({valkey.broker_url!r}, '').client(2))\n"
    )
    with redis.Redis(unix_socket_path=valkey.socket, db=1) as broker:
        broker.lpush(QUEUE, "a task that nobody takes")
    assert subprocess.run([sys.executable, "-c", deaf], timeout=60).returncode == 70
