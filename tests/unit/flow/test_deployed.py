import asyncio
import contextlib

import pytest

from okiba.core.errors import StoreUnavailable
from okiba.flow import deployed as deployed_module
from okiba.flow.deployed import Deployed
from tests.deadline import soon
from tests.fakes.preparing import FakeRegistry
from tests.unit.flow.test_reconcile import World


class Followed:
    """What is deployed, followed for as long as the block lasts."""

    def __init__(self):
        self.world = World()
        self.registry: FakeRegistry = self.world.registry
        self.deployed = Deployed(self.registry)
        self.told = 0

    def names(self):
        return {function.name for function in self.deployed.functions}

    @contextlib.asynccontextmanager
    async def following(self):
        def changed():
            self.told += 1

        task = asyncio.create_task(self.deployed.follow(changed))
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
def followed(monkeypatch):
    monkeypatch.setattr(deployed_module, "PAUSE_S", 0.01)
    return Followed()


async def test_what_was_there_before_and_what_comes_later_is_known(followed):
    followed.world.deploy("early")
    async with followed.following():
        await soon(lambda: followed.names() == {"early"})
        followed.world.deploy("late")
        await soon(lambda: followed.names() == {"early", "late"})


async def test_a_function_that_is_removed_is_known_no_longer(followed):
    followed.world.deploy("photo")
    async with followed.following():
        await soon(lambda: followed.names() == {"photo"})
        await followed.registry.delete("photo")
        await soon(lambda: not followed.names())


async def test_while_the_registry_is_away_everything_stays_and_then_all_is_read_anew(followed):
    followed.world.deploy("photo")
    async with followed.following():
        await soon(lambda: followed.names() == {"photo"})
        followed.registry.away = StoreUnavailable("Redis is not reachable")
        followed.world.deploy("mail")
        await soon(lambda: followed.registry.refusals >= 2)
        assert followed.names() == {"photo"}
        followed.registry.away = None
        await soon(lambda: followed.names() == {"photo", "mail"})


async def test_keys_are_nobodys_news(followed):
    async with followed.following():
        await soon(lambda: followed.told == 1)
        followed.registry._heard.put_nowait("key:AKIA")
        followed.world.deploy("photo")
        await soon(lambda: followed.names() == {"photo"})
        assert followed.told == 2
