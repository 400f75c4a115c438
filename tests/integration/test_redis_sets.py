"""Redis that fails over, is shared out over servers, or is behind TLS: the link and the queue on real ones."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from okiba.adapters.celery_broker import broker_of
from okiba.adapters.celery_jobs import QUEUE, JobSender
from okiba.adapters.redis_client import client_of
from okiba.adapters.redis_connection import RedisRefused
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_queue import RedisQueue
from okiba.core.errors import StoreUnavailable
from okiba.core.invocation import Ending, Outcome
from okiba.ports import Work
from tests.deadline import soon
from tests.redis_sets import Node, ValkeyCluster, authority, cluster, node, tls_front, watched_set

RIGHTS = ("~*", "+@all", "-@admin", "-@dangerous", "+info", "+role")
"""What docs/kubernetes.md says that the platform's user needs; with every key, for Celery's."""

DONE = Outcome(Ending.SUCCEEDED, b"{}")


@contextlib.asynccontextmanager
async def linked(url: str, timeout_ms: int = 1_000) -> AsyncIterator[RedisLink]:
    link = await RedisLink.open(url, timeout_ms)
    try:
        yield link
    finally:
        await link.close()


class Load:
    """Callers who invoke without waiting for the answer, and a gateway that runs what was accepted.

    A caller who gets an error repeats his call, as clients do, with the same id, as a retried event has.
    """

    def __init__(self, link: RedisLink, functions: int) -> None:
        self.queue = RedisQueue(link, "default", "gateway", 60_000)
        self.functions = [f"f{number}" for number in range(functions)]
        self.accepted: set[str] = set()
        self.handled: list[str] = []
        self.errors = 0
        self.ending = False

    async def caller(self, number: int) -> None:
        turn = 0
        while not self.ending:
            name = f"{number}-{turn}"
            await self.insisting(lambda name=name: self.queue.accept([self.work(name)]))
            self.accepted.add(name)
            turn += 1

    async def worker(self, function: str) -> None:
        while not (self.ending and self.accepted <= set(self.handled)):
            leases = await self.insisting(lambda: self.queue.lease(function, 16, 0))
            if not leases:  # what was leased to an answer that never came
                await asyncio.sleep(0.01)
                leases = await self.insisting(lambda: self.queue.recover(function))
            for lease in leases:
                await self.insisting(lambda lease=lease: self.queue.succeed(lease, DONE))
            self.handled += [lease.work.request_id for lease in leases]

    def work(self, name: str) -> Work:
        function = self.functions[hash(name) % len(self.functions)]
        return Work(function, name, name, b"{}", "invoke", 1)

    async def insisting(self, call):
        while True:
            try:
                return await call()
            except StoreUnavailable:
                self.errors += 1
                await asyncio.sleep(0.05)


async def accepted_equals_handled(link: RedisLink, functions: int, disturb: Callable[[Load], object]) -> Load:
    """Runs 8 callers before, during and after the disturbance; fails unless what was accepted is what was handled."""
    load = Load(link, functions)
    async with asyncio.timeout(50):
        async with asyncio.TaskGroup() as group:
            for function in load.functions:
                group.create_task(load.worker(function))
            for number in range(8):
                group.create_task(load.caller(number))
            await soon(lambda: len(load.accepted) > 200, 20)
            await disturb(load)
            before = len(load.accepted)
            await soon(lambda: len(load.accepted) > before + 200, 20)
            load.ending = True
    twice = {name for name, times in Counter(load.handled).items() if times > 1}
    assert (load.accepted - set(load.handled), set(load.handled) - load.accepted, twice) == (set(), set(), set())
    return load


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """host:port of a Valkey with one user, whose certificate is of an authority that SSL_CERT_FILE names."""
    site = authority(tmp_path)
    with node(tmp_path / "data") as server:
        server.told("ACL", "SETUSER", "okiba", "on", ">p@ss", *RIGHTS)
        server.told("ACL", "SETUSER", "default", "off")
        with tls_front(server.port, site) as port:
            monkeypatch.setenv("SSL_CERT_FILE", str(site.certificate))
            yield f"localhost:{port}"


async def test_a_user_of_its_own_is_let_in_over_tls(encrypted):
    async with linked(f"rediss://okiba:p%40ss@{encrypted}/2") as link:
        assert await link.call("ACL", "WHOAMI") == b"okiba"
        assert await link.wait("XREAD", "BLOCK", 1, "STREAMS", "none", "0", timeout_ms=1) is None
        assert await link.script("queue_depths", ["okiba:{t/f}"], []) == [0, 0]


async def test_neither_a_wrong_password_nor_an_unknown_authority_nor_another_name_gets_anywhere(encrypted, monkeypatch):
    with pytest.raises(StoreUnavailable, match="WRONGPASS"):
        await RedisLink.open(f"rediss://okiba:wrong@{encrypted}")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.2"):
        await RedisLink.open(f"rediss://okiba:p%40ss@{encrypted.replace('localhost', '127.0.0.2')}")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await RedisLink.open(f"rediss://okiba:p%40ss@{encrypted}")


def test_jobs_and_their_broker_use_tls_and_the_user_too(encrypted):
    url = f"rediss://okiba:p%40ss@{encrypted}"
    with client_of(url, 2) as client:
        assert client.acl_whoami() == "okiba"

    broker = broker_of("", url)
    assert JobSender(broker).build_layer("hash") is True
    with broker.client(2) as client:
        assert client.llen(QUEUE) == 1


# --- Sentinels --------------------------------------------------------------------------------------------------------


async def test_a_primary_killed_under_load_loses_nothing_that_was_accepted(tmp_path):
    with watched_set(tmp_path) as servers:
        former = servers.primary()

        async def kill(load: Load) -> None:
            former.kill()
            await soon(lambda: not link.healthy, 20)
            await soon(lambda: link.healthy, 20)  # another server, which makes no promises alone
            await asyncio.to_thread(former.start)

        async with linked(servers.url) as link:
            load = await accepted_equals_handled(link, 4, kill)

        assert servers.primary() is not former
        assert load.errors > 0


async def test_a_primary_that_was_frozen_is_left_for_the_new_one_and_not_gone_back_to(tmp_path):
    with watched_set(tmp_path, replicas=2) as servers:
        former = servers.primary()

        async def freeze(load: Load) -> None:
            former.process.send_signal(signal.SIGSTOP)
            seen = len(load.accepted)
            await soon(lambda: len(load.accepted) > seen + 100, 20)
            former.process.send_signal(signal.SIGCONT)

        async with linked(servers.url) as link:
            await accepted_equals_handled(link, 2, freeze)
            assert b"role:master" in await link.call("INFO", "replication")
            former.await_true(lambda: b"role:slave" in former.told("INFO", "replication"), "the former primary")


async def test_jobs_and_their_broker_follow_the_primary(tmp_path):
    with watched_set(tmp_path) as servers:
        broker = broker_of("", servers.url)
        sender = JobSender(broker)
        assert sender.build_layer("hash") is True
        with broker.client(2) as client:
            servers.primary().told("WAIT", 1, 1_000)
            servers.primary().kill()
            deadline = time.monotonic() + 20
            while not sender.build_layer("hash"):
                assert time.monotonic() < deadline
            assert client.llen(QUEUE) == 2


async def test_a_change_that_no_replica_has_was_not_made_and_reading_goes_on(tmp_path):
    with node(tmp_path) as server:
        async with linked(f"redis://127.0.0.1:{server.port}?replicas=1") as link:
            reads = asyncio.gather(*(link.call("GET", "k") for _ in range(10)))
            with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
                await link.call("SET", "k", "v")
            assert len(await reads) == 10
            with pytest.raises(RedisRefused, match="WRONGTYPE"):
                await link.call("LPUSH", "k", "v")


# --- a cluster --------------------------------------------------------------------------------------------------------


async def test_a_cluster_s_primary_killed_under_load_loses_nothing_that_was_accepted(tmp_path):
    with cluster(tmp_path, replicas=1) as servers:

        async def kill(load: Load) -> None:
            servers.nodes[1].kill()
            await soon(lambda: not link.healthy, 20)
            await soon(lambda: link.healthy, 20)
            await asyncio.to_thread(servers.nodes[1].start)

        async with linked(servers.url) as link:
            load = await accepted_equals_handled(link, 12, kill)

    assert load.errors > 0


async def test_slots_moved_under_load_lose_nothing_that_was_accepted(tmp_path):
    with cluster(tmp_path) as servers:

        async def move(load: Load) -> None:
            for function in load.functions:
                await asyncio.to_thread(move_slot, servers, key_slot(f"okiba:{{default/{function}}}".encode()))

        async with linked(f"{servers.url}?replicas=0") as link:
            await accepted_equals_handled(link, 4, move)


def move_slot(servers: ValkeyCluster, slot: int) -> None:
    """As `valkey-cli --cluster reshard` does it: key by key, with the old and the new server redirecting meanwhile."""
    source = next(each for each in servers.nodes if owns(each, slot))
    target = next(each for each in servers.nodes if each is not source)
    names = {each.port: each.told("CLUSTER", "MYID").decode() for each in servers.nodes}
    target.told("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source.port])
    source.told("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target.port])
    time.sleep(0.1)
    while keys := source.told("CLUSTER", "GETKEYSINSLOT", slot, 1):
        source.told("MIGRATE", "127.0.0.1", target.port, "", 0, 1_000, "KEYS", *keys)
    for each in (target, source, *servers.nodes):
        each.told("CLUSTER", "SETSLOT", slot, "NODE", names[target.port])


def owns(each: Node, slot: int) -> bool:
    me = each.told("CLUSTER", "MYID")
    return any(first <= slot <= last and primary[2] == me for first, last, primary, *_ in each.told("CLUSTER", "SLOTS"))


async def test_jobs_use_a_cluster(tmp_path):
    with cluster(tmp_path) as servers, client_of(servers.url, 2) as client:
        for number in range(20):
            client.hset(f"okiba:layer:{number}", "phase", "wanted")
        assert all(client.hget(f"okiba:layer:{number}", "phase") == b"wanted" for number in range(20))
