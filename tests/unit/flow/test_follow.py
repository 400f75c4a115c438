import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from okiba.core.errors import StoreUnavailable
from okiba.core.function import State
from okiba.flow.follow import Follower
from okiba.ports import Principal
from tests.deadline import soon
from tests.unit.flow.test_reconcile import World


@pytest.fixture
def world():
    return World()


@asynccontextmanager
async def following(world):
    follower = Follower(world.registry, world.reconciler, lambda: time.monotonic_ns() // 1_000_000, lambda: 0.0)
    task = asyncio.create_task(follower.run())
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def active(world, name):
    return lambda: world.function(name).state is State.ACTIVE


async def test_a_function_deployed_before_the_start_is_prepared(world):
    world.deploy()
    async with following(world):
        await soon(active(world, "photo"))


async def test_a_function_deployed_later_is_prepared(world):
    async with following(world):
        await asyncio.sleep(0)
        world.deploy()
        await soon(active(world, "photo"))


async def test_one_hostile_function_does_not_stop_the_others(world):
    world.code.broken = {f"code-of-hostile{number}" for number in range(8)}
    for number in range(8):
        world.deploy(f"hostile{number}")
    async with following(world):
        world.deploy("photo")
        await soon(active(world, "photo"))
        world.code.broken.clear()
        await soon(active(world, "hostile3"))


async def test_what_was_away_is_tried_again(world):
    async with following(world):
        world.code.trouble = StoreUnavailable("MinIO does not answer")
        world.deploy()
        await soon(lambda: world.function().state_reason == "MinIO does not answer")
        world.code.trouble = None
        await soon(active(world, "photo"))


async def test_a_registry_that_was_away_is_read_anew(world):
    world.registry.away = StoreUnavailable("Redis is not reachable")
    async with following(world):
        await soon(lambda: world.registry.refusals >= 2)
        world.deploy()
        world.registry.away = None
        await soon(active(world, "photo"))


async def test_a_disabled_key_reaches_the_store(world):
    function = world.deploy()
    async with following(world):
        await soon(active(world, "photo"))
        world.keys.principals[function.access_key] = Principal(function.access_key, "secret", "photo", enabled=False)
        world.registry._heard.put_nowait(f"key:{function.access_key}")
        await soon(lambda: world.store.disabled == {function.access_key})
