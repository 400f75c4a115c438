"""The local fleet with real agents, a real Valkey behind the registry, and a gateway's end of the link."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from okiba import wire
from okiba.adapters.fleet_link import FleetLink
from okiba.adapters.local_python import installed_runtimes
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_registry import RedisRegistry
from okiba.adapters.slot_http import connect
from okiba.adapters.vault import Vault
from okiba.apps.local.fleet import LocalFleet
from okiba.apps.local.processes import start_time
from okiba.apps.local.slots.needs import DEFAULT_RUNTIME
from okiba.apps.local.slots.records import end_all, read_records
from okiba.core.function import Function, Layer
from okiba.ports import SlotAddress
from okiba.settings import Settings
from tests.fakes.fleet import FakeListener
from tests.integration.local.conftest import becomes_true, running

KEY = "ab" * 32
LAYER = "1" * 64
OTHER_RUNTIME = next((name for name in installed_runtimes() if name != DEFAULT_RUNTIME), "")


def function(name: str, **fields: object) -> Function:
    record = Function(name, DEFAULT_RUNTIME, "app.handler", "0" * 64, 1, "r1", 1, "AKIA")
    return replace(record, **fields)


class Site:
    """A state folder, a lifeline, and whatever controllers and gateways a test starts on it."""

    def __init__(self, state_dir: Path, sockets: Path, link: RedisLink) -> None:
        self.state_dir = state_dir
        for name in ("slots", "logs", "layers"):
            (state_dir / name).mkdir()
        self.read_end, self.write_end = os.pipe()
        self.link = link
        self.registry = RedisRegistry(link, Vault(KEY), "default")
        self.settings = Settings(
            state_dir=state_dir,
            fleet_address=f"unix:{sockets}/fleet",
            platform_key=KEY,
            lifeline_fd=self.read_end,
            warm_slots=2,
        )
        self.epoch = 0

    @property
    def pids(self) -> list[int]:
        return [record.pid for record in read_records(self.state_dir / "slots")]

    @contextlib.asynccontextmanager
    async def controller(self, **settings: object) -> AsyncIterator[LocalFleet]:
        fleet = LocalFleet(replace(self.settings, **settings), self.registry, self.link)
        async with running(fleet.run()):
            yield fleet

    @contextlib.asynccontextmanager
    async def gateway(self, *, waits: bool = True) -> AsyncIterator[tuple[FleetLink, FakeListener]]:
        self.epoch += 1
        link, listener = FleetLink(self.settings.fleet_address, "g", self.epoch, KEY), FakeListener()
        async with running(link.run(listener)):
            if waits:
                await becomes_true(lambda: listener.synced, "the gateway is told of all slots")
            yield link, listener

    def cut_lifeline(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1


@pytest.fixture
async def site(tmp_path: Path, sockets: Path, redis_link: RedisLink) -> AsyncIterator[Site]:
    here = Site(tmp_path, sockets, redis_link)
    yield here
    here.cut_lifeline()
    killed = end_all(tmp_path)
    os.close(here.read_end)
    assert killed == 0, "every slot ends by itself when its lifeline is cut"


async def ask(slot: SlotAddress, request: bytes) -> wire.Answer:
    connection = await connect(slot.address)
    try:
        return await connection.ask(request, 5)
    finally:
        connection.close()


async def specialise(slot: SlotAddress, code: Path, handler: str = "app.handler") -> wire.Answer:
    body = {
        "epoch": 1,
        "grant": "0" * 64,
        "function": {
            "name": "f",
            "version": "$LATEST",
            "arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
            "handler": handler,
            "memory_mb": 128,
            "timeout_ms": 3000,
            "log_group": "/aws/lambda/f",
            "log_stream": "s",
        },
        "environment": {"AWS_REGION": "us-east-1"},
        "code": {"path": str(code)},
        "layers": [],
        "packages": [],
        "init_ms": 10_000,
    }
    return await ask(slot, wire.specialize_request(body))


async def test_warm_slots_are_made_before_anything_is_deployed_and_dealt(site: Site) -> None:
    async with site.controller(), site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
        answer = await ask(link.claim([DEFAULT_RUNTIME], "f", "r1"), wire.telemetry_request("", 0, 0))
        assert answer.text(b"okiba-state") == "warm"


async def test_a_slot_that_was_taken_is_replaced(site: Site) -> None:
    async with site.controller(), site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
        slot = link.claim([DEFAULT_RUNTIME], "f", "r1")
        link.took(replace(slot, function="f", revision="r1"), 1)
        await becomes_true(lambda: len(listener.dealt) == 3)
        assert link.warm() == {DEFAULT_RUNTIME: 2}


async def test_slots_are_made_at_once_for_callers_who_wait_beyond_what_is_kept_warm(site: Site) -> None:
    async with site.controller(warm_slots=0), site.gateway() as (link, listener):
        link.want(DEFAULT_RUNTIME, 5)
        await becomes_true(lambda: len(listener.dealt) >= 5)


@pytest.mark.skipif(not OTHER_RUNTIME, reason="this machine has one Python only")
async def test_a_python_version_gets_a_pool_when_a_function_uses_it_and_loses_it_afterwards(site: Site) -> None:
    async with site.controller(idle_slot_ms=1) as fleet, site.gateway() as (link, _):
        await site.registry.put(function("other", runtime=OTHER_RUNTIME), replaces=None)
        await becomes_true(lambda: link.warm().get(OTHER_RUNTIME) == 2)
        nursery = fleet._nurseries[OTHER_RUNTIME]
        await site.registry.delete("other")
        await becomes_true(lambda: OTHER_RUNTIME not in link.warm())
        await becomes_true(lambda: nursery.dead)


async def test_a_layer_gets_a_slot_once_it_is_built_and_another_once_its_modules_are_known(site: Site) -> None:
    kind = f"{DEFAULT_RUNTIME}+{LAYER}"
    async with site.controller(), site.gateway() as (link, _):
        await site.registry.put(function("f", layer=Layer(LAYER, "thing")), replaces=None)
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
        packages = site.state_dir / "layers" / LAYER / "python"
        packages.mkdir(parents=True)
        (packages / "thing.py").write_text("CAME_FROM = __file__\n")
        await becomes_true(lambda: link.warm().get(kind) == 1)
        await site.link.call("HSET", f"okiba:layer:{LAYER}", "preload", "thing")
        await becomes_true(lambda: any(record.preload == "thing" for record in read_records(site.state_dir / "slots")))
        await becomes_true(lambda: link.warm().get(kind) == 1)


async def test_why_preloading_was_given_up_is_recorded(site: Site) -> None:
    packages = site.state_dir / "layers" / LAYER / "python"
    packages.mkdir(parents=True)
    (packages / "busy.py").write_text(
        "from threading import Thread\nimport time\nThread(target=time.sleep, args=(9,)).start()\n"
    )
    await site.registry.put(function("f", layer=Layer(LAYER, "busy"), preload=("busy",)), replaces=None)
    async with site.controller():
        await becomes_true(
            lambda: [record for record in read_records(site.state_dir / "slots") if "threads" in record.preload_dropped]
        )


async def test_a_slot_that_dies_is_reported_and_replaced(site: Site) -> None:
    async with site.controller(), site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
        victim = read_records(site.state_dir / "slots")[0]
        os.kill(victim.pid, signal.SIGKILL)
        await becomes_true(lambda: listener.gone == [(victim.address.id, "died")])
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
        assert not victim.socket.exists()


async def test_a_retired_slot_ends_with_everything_in_it_and_leaves_nothing(site: Site, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "app.py").write_text("def handler(event, context): return 1\n")
    async with site.controller(warm_slots=1), site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 1})
        slot = link.claim([DEFAULT_RUNTIME], "f", "r1")
        assert (await specialise(slot, code)).status == 200
        link.took(replace(slot, function="f", revision="r1"), 1)
        await becomes_true(lambda: any(record.address.function for record in read_records(site.state_dir / "slots")))
        record = next(record for record in read_records(site.state_dir / "slots") if record.address.function)
        family = [record.pid, *descendants(record.pid)]
        assert len(family) >= 3, "agent, zygote, worker"
        link.retire(slot.id, 1)
        await becomes_true(lambda: [slot_id for slot_id, _ in listener.gone] == [slot.id])
        await becomes_true(lambda: all(start_time(pid) is None for pid in family))
        assert not record.socket.exists()
        await becomes_true(lambda: not record.cgroup or not Path(record.cgroup).exists())


async def test_a_controller_that_was_restarted_finds_its_slots_again(site: Site) -> None:
    async with site.gateway(waits=False) as (link, listener):
        async with site.controller():
            await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
            slot = link.claim([DEFAULT_RUNTIME], "f", "r1")
            link.took(replace(slot, function="f", revision="r1"), 1)
            await becomes_true(lambda: len(listener.dealt) == 3)
            before = sorted(site.pids)
        async with site.controller():
            await becomes_true(lambda: listener.synced == 2)
            await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
            assert sorted(site.pids) == before
            assert listener.gone == []
            async with site.gateway() as (_, newer):
                await becomes_true(lambda: len(newer.dealt) == 3)
                assert [one for one in newer.dealt if one.function] == [replace(slot, function="f", revision="r1")]


async def test_a_slot_that_ended_without_a_controller_is_not_adopted_even_if_its_number_lives_on(site: Site) -> None:
    async with site.controller(warm_slots=1), site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 1})
    path = next((site.state_dir / "slots").glob("*.json"))
    record = json.loads(path.read_text())
    os.kill(record["pid"], signal.SIGKILL)
    path.write_text(json.dumps({**record, "pid": os.getpid()}))  # another process, another start time
    async with site.controller(warm_slots=0), site.gateway() as (link, listener):
        assert listener.dealt == []
        assert not path.exists()


async def test_slots_end_when_the_lifeline_is_cut(site: Site) -> None:
    async with site.controller(), site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
    pids = site.pids
    assert all(start_time(pid) for pid in pids)
    site.cut_lifeline()
    await becomes_true(lambda: all(start_time(pid) is None for pid in pids), patience_s=5)


async def test_slots_made_ahead_give_way_while_they_are_made_and_not_afterwards(site: Site) -> None:
    async with site.controller(warm_slots=1) as fleet, site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 1})
        nursery = fleet._nurseries[DEFAULT_RUNTIME]._popen.pid
        assert os.sched_getscheduler(nursery) in (os.SCHED_IDLE, os.SCHED_BATCH)
        agent = site.pids[0]
        await becomes_true(lambda: policies(agent) == [os.SCHED_OTHER, os.SCHED_OTHER, os.SCHED_BATCH])
        link.want(DEFAULT_RUNTIME, 1)
        await becomes_true(lambda: os.sched_getscheduler(nursery) == os.SCHED_OTHER)


def policies(agent: int) -> list[int]:
    """Of an agent, its zygote and its worker, once they are all there are: being born, there may be others."""
    with contextlib.suppress(ProcessLookupError):
        return [os.sched_getscheduler(pid) for pid in (agent, *descendants(agent))]
    return []


async def test_no_more_slots_are_made_than_the_machine_may_have(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with site.controller(max_slots=3), site.gateway() as (link, listener):
        link.want(DEFAULT_RUNTIME, 10)
        await becomes_true(lambda: len(listener.dealt) == 3)
        await becomes_true(lambda: "no more slots may be made" in caplog.text)
        assert len(site.pids) == 3


@pytest.mark.skipif(not OTHER_RUNTIME, reason="this machine has one Python only")
async def test_on_a_full_machine_a_warm_slot_goes_for_one_that_a_caller_waits_for(site: Site) -> None:
    async with site.controller(max_slots=2), site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
        link.want(OTHER_RUNTIME, 1)
        await becomes_true(lambda: OTHER_RUNTIME in link.warm())


async def test_surplus_slots_of_a_burst_go_when_nobody_has_asked_for_a_while(site: Site) -> None:
    async with site.controller(warm_slots=1, idle_slot_ms=500), site.gateway() as (link, listener):
        link.want(DEFAULT_RUNTIME, 4)
        await becomes_true(lambda: len(listener.dealt) >= 4)
        link.want(DEFAULT_RUNTIME, 0)
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 1})


async def test_an_unknown_python_version_fails_alone(site: Site) -> None:
    async with site.controller(), site.gateway() as (link, _):
        link.want("python3.99", 1)
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})


async def test_a_nursery_that_is_killed_is_replaced_and_its_slots_live_on(site: Site) -> None:
    async with site.controller() as fleet, site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
        nursery = fleet._nurseries[DEFAULT_RUNTIME]
        os.kill(nursery._popen.pid, signal.SIGKILL)
        await becomes_true(lambda: nursery.dead)
        link.took(replace(link.claim([DEFAULT_RUNTIME], "f", "r1"), function="f", revision="r1"), 1)
        await becomes_true(lambda: link.warm() == {DEFAULT_RUNTIME: 2})
        assert listener.gone == []


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found
