import asyncio
from dataclasses import replace

import pytest

from okiba.adapters.redis_registry import FUNCTIONS, KEYS
from okiba.core.errors import PlatformError, PreconditionFailed, StoreUnavailable
from okiba.core.function import Function, State
from okiba.ports import Principal
from tests import servers
from tests.integration.control.conftest import parts_of

PLAIN = Function("f", "python3.11", "app.handler", "00", 1, "r1", 1, "OKIA", environment={"PASSWORD": "canary"})


@pytest.fixture
async def parts(control_settings):
    opened = await parts_of(control_settings)
    await opened.link.call("FLUSHALL")
    yield opened
    await opened.link.call("FLUSHALL")
    await opened.link.close()


async def test_a_stored_function_is_found_again(parts):
    await parts.registry.put(PLAIN, replaces=None)
    stored = replace(PLAIN, generation=1)
    assert await parts.registry.get("f") == stored
    assert await parts.registry.all() == [stored]


async def test_what_was_never_stored_is_absent(parts):
    assert await parts.registry.get("f") is None
    assert await parts.registry.all() == []
    assert not await parts.registry.delete("f")


async def test_a_function_is_made_once(parts):
    await parts.registry.put(PLAIN, replaces=None)
    with pytest.raises(PreconditionFailed):
        await parts.registry.put(PLAIN, replaces=None)


@pytest.mark.parametrize("replaces", ["r0", "r2"])
async def test_a_function_of_another_revision_is_not_replaced(parts, replaces):
    await parts.registry.put(PLAIN, replaces=None)
    with pytest.raises(PreconditionFailed):
        await parts.registry.put(replace(PLAIN, generation=1), replaces=replaces)


async def test_a_function_that_is_gone_is_not_replaced(parts):
    with pytest.raises(PreconditionFailed):
        await parts.registry.put(PLAIN, replaces="r1")


async def test_of_two_writers_who_keep_the_revision_the_second_has_to_read_again(parts):
    """The controller makes it Active while somebody reserves concurrency: neither may be lost."""
    await parts.registry.put(PLAIN, replaces=None)
    read = await parts.registry.get("f")
    await parts.registry.put(replace(read, reserved_concurrency=5), replaces="r1")
    with pytest.raises(PreconditionFailed):
        await parts.registry.put(replace(read, state=State.ACTIVE), replaces="r1")
    assert (await parts.registry.get("f")).reserved_concurrency == 5


async def test_of_many_writers_at_once_one_wins(parts):
    await parts.registry.put(PLAIN, replaces=None)
    read = await parts.registry.get("f")
    writes = (parts.registry.put(replace(read, revision=f"w{number}"), replaces="r1") for number in range(20))
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(result is None for result in results) == 1


async def test_a_deleted_function_is_gone_and_may_be_made_again(parts):
    await parts.registry.put(PLAIN, replaces=None)
    assert await parts.registry.delete("f")
    assert await parts.registry.all() == []
    await parts.registry.put(PLAIN, replaces=None)
    assert [function.name for function in await parts.registry.all()] == ["f"]


async def test_a_name_whose_record_is_gone_is_passed_over(parts):
    await parts.link.call("SADD", FUNCTIONS, "ghost")
    assert await parts.registry.all() == []


async def test_a_damaged_record_hides_no_other(parts):
    await parts.registry.put(PLAIN, replaces=None)
    await parts.link.call("SADD", FUNCTIONS, "broken")
    await parts.link.call("SET", "okiba:{default/broken}:function", "{}")
    assert [function.name for function in await parts.registry.all()] == ["f"]
    assert (await parts.registry.census()).unreadable == ["broken"]


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"name": "f", "secret": "x", "enabled": true}'])
async def test_a_damaged_key_hides_no_other(parts, record):
    principal = Principal("OKIA", "secret", "f")
    await parts.keys.put(principal)
    await parts.link.call("HSET", KEYS, "OKIABROKEN", record)
    assert await parts.keys.all() == [principal]
    with pytest.raises(PlatformError):
        await parts.keys.get("OKIABROKEN")


async def test_environment_and_secrets_are_encrypted_where_they_lie(parts):
    await parts.registry.put(PLAIN, replaces=None)
    await parts.keys.put(Principal("OKIA", "secret-canary", "f"))
    stored = (
        await parts.link.call("GET", "okiba:{default/f}:function"),
        await parts.link.call("HGET", "okiba:keys", "OKIA"),
    )
    assert b"canary" not in b"".join(stored)


async def test_keys_are_kept_changed_and_deleted(parts):
    principal = Principal("OKIA", "secret", "f")
    await parts.keys.put(principal)
    assert await parts.keys.get("OKIA") == principal
    disabled = replace(principal, enabled=False)
    await parts.keys.put(disabled)
    assert await parts.keys.all() == [disabled]
    await parts.keys.delete("OKIA")
    assert (await parts.keys.get("OKIA"), await parts.keys.all()) == (None, [])


async def test_a_follower_hears_of_everything_that_changes(parts):
    heard: list[str] = []

    async def follow():
        async for what in parts.registry.changes():
            heard.append(what)

    following = asyncio.create_task(follow())
    try:
        await parts.registry.put(PLAIN, replaces=None)
        await parts.keys.put(Principal("OKIA", "secret", "f"))
        await parts.registry.delete("f")
        await parts.keys.delete("OKIA")
        async with asyncio.timeout(10):
            while len(heard) < 4:
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
    assert heard == ["f", "key:OKIA", "f", "key:OKIA"]


async def test_what_changed_between_asking_and_looking_is_heard_too(parts):
    changes = parts.registry.changes()
    await parts.registry.put(PLAIN, replaces=None)
    async with asyncio.timeout(10):
        assert await anext(changes) == "f"


async def test_a_follower_is_told_when_redis_goes_away(tmp_path, control_settings):
    with servers.valkey(tmp_path) as server:
        opened = await parts_of(replace(control_settings, redis_url=server.url))
        changes = opened.registry.changes()
        looking = asyncio.create_task(anext(changes))
        await asyncio.sleep(0)
        servers.end(server.process)
        with pytest.raises(StoreUnavailable):
            await looking
        await opened.link.close()
