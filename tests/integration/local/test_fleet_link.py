from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from okiba.adapters.fleet_link import FleetLink, FleetServer, fleet_token
from okiba.core.errors import InvalidParameter
from okiba.ports import SlotAddress
from tests.fakes.fleet import FakeKeeper, FakeListener
from tests.integration.local.conftest import becomes_true, running

KEY = "ab" * 32
KIND = "python3.11"


def warm(name: str, kind: str = KIND) -> SlotAddress:
    return SlotAddress(name, kind, f"unix:/nowhere/{name}")


def taken(name: str, function: str = "thumbnails") -> SlotAddress:
    return SlotAddress(name, KIND, f"unix:/nowhere/{name}", function, "r1")


def link(address: str, epoch: int = 1, key: str = KEY) -> FleetLink:
    return FleetLink(address, "gateway-1", epoch, key)


@pytest.fixture
def address(sockets: Path) -> str:
    return f"unix:{sockets}/fleet"


async def test_a_gateway_gets_every_slot_and_then_the_word_that_these_were_all(address: str) -> None:
    listener = FakeListener()
    fleet = link(address)
    server = FleetServer(address, KEY, FakeKeeper(warm("a"), taken("b")))
    async with running(server.run()), running(fleet.run(listener)):
        await becomes_true(lambda: listener.synced)
        assert listener.dealt == [warm("a"), taken("b")]
        assert fleet.warm() == {KIND: 1}


async def test_a_claim_takes_the_first_kind_that_has_a_slot(address: str) -> None:
    layered = warm("layered", f"{KIND}+{'0' * 64}")
    listener, fleet = FakeListener(), link(address)
    async with (
        running(FleetServer(address, KEY, FakeKeeper(warm("plain"), layered)).run()),
        running(fleet.run(listener)),
    ):
        await becomes_true(lambda: listener.synced)
        kinds = (layered.kind, KIND)
        assert [fleet.claim(kinds), fleet.claim(kinds), fleet.claim(kinds)] == [layered, warm("plain"), None]


async def test_a_slot_dealt_later_can_be_claimed_and_one_that_is_gone_cannot(address: str) -> None:
    listener, fleet = FakeListener(), link(address)
    server = FleetServer(address, KEY, FakeKeeper())
    async with running(server.run()), running(fleet.run(listener)):
        await becomes_true(lambda: listener.synced)
        server.deal(warm("a"))
        server.deal(warm("b"))
        server.gone("a", "killed by SIGKILL")
        await becomes_true(lambda: listener.gone)
        assert listener.gone == [("a", "killed by SIGKILL")]
        assert [fleet.claim([KIND]), fleet.claim([KIND])] == [warm("b"), None]


async def test_what_a_gateway_says_reaches_the_keeper(address: str) -> None:
    listener, fleet, keeper = FakeListener(), link(address), FakeKeeper(warm("a"), warm("b"))
    async with running(FleetServer(address, KEY, keeper).run()), running(fleet.run(listener)):
        await becomes_true(lambda: listener.synced)
        fleet.took(taken("a"))
        fleet.want(KIND, 7)
        fleet.retire("b")
        await becomes_true(lambda: keeper.retired)
        assert (keeper.taken, keeper.wanted, keeper.retired) == ([("a", "thumbnails", "r1")], {KIND: 7}, ["b"])


async def test_what_was_said_while_the_controller_was_away_is_said_when_it_is_back(address: str) -> None:
    listener, fleet = FakeListener(), link(address)
    async with running(fleet.run(listener)):
        async with running(FleetServer(address, KEY, FakeKeeper(warm("a"), warm("b"))).run()):
            await becomes_true(lambda: listener.synced)
        await becomes_true(lambda: not fleet.connected)
        fleet.took(taken("a"))
        fleet.want(KIND, 3)
        fleet.retire("b")
        keeper = FakeKeeper(warm("a"), warm("b"))
        async with running(FleetServer(address, KEY, keeper).run()):
            await becomes_true(lambda: keeper.retired)
            assert (keeper.taken, keeper.wanted, keeper.retired) == ([("a", "thumbnails", "r1")], {KIND: 3}, ["b"])


async def test_slots_told_again_after_a_reconnect_are_neither_dealt_twice_nor_claimable_again(address: str) -> None:
    listener, fleet = FakeListener(), link(address)
    async with running(fleet.run(listener)):
        for synced in (1, 2):
            async with running(FleetServer(address, KEY, FakeKeeper(warm("a"), warm("b"))).run()):
                await becomes_true(lambda expected=synced: listener.synced == expected)
                if synced == 1:
                    assert fleet.claim([KIND]) == warm("b")
        assert listener.dealt == [warm("a"), warm("b")]
        assert [fleet.claim([KIND]), fleet.claim([KIND])] == [warm("a"), None]


async def test_a_slot_that_ended_while_the_controller_was_away_is_reported_gone(address: str) -> None:
    listener, fleet = FakeListener(), link(address)
    async with running(fleet.run(listener)):
        async with running(FleetServer(address, KEY, FakeKeeper(warm("a"), taken("b"))).run()):
            await becomes_true(lambda: listener.synced)
        async with running(FleetServer(address, KEY, FakeKeeper(taken("b"))).run()):
            await becomes_true(lambda: listener.synced == 2)
        assert [slot_id for slot_id, _ in listener.gone] == ["a"]
        assert fleet.claim([KIND]) is None


async def test_the_callers_of_a_gateway_that_is_gone_no_longer_want_anything(address: str) -> None:
    keeper = FakeKeeper()
    async with running(FleetServer(address, KEY, keeper).run()):
        fleet = link(address)
        async with running(fleet.run(FakeListener())):
            await becomes_true(lambda: fleet.connected)
            fleet.want(KIND, 9)
            await becomes_true(lambda: keeper.wanted.get(KIND) == 9)
        await becomes_true(lambda: keeper.wanted[KIND] == 0)


async def test_a_gateway_without_the_platforms_key_is_refused(address: str) -> None:
    async with running(FleetServer(address, KEY, FakeKeeper(warm("a"))).run()):
        await becomes_true(Path(address.removeprefix("unix:")).exists)
        assert await _raw(address, {"hello": "g", "epoch": 1, "token": fleet_token("cd" * 32)}) == b""


async def test_a_later_life_of_the_gateway_takes_the_link_over_and_an_earlier_one_is_refused(address: str) -> None:
    old, new = FakeListener(), FakeListener()
    former = link(address, epoch=1)
    async with running(FleetServer(address, KEY, FakeKeeper(warm("a"))).run()), running(former.run(old)):
        await becomes_true(lambda: old.synced)
        async with running(link(address, epoch=2).run(new)):
            await becomes_true(lambda: new.synced)
            await becomes_true(lambda: not former.connected)
            assert await _raw(address, {"hello": "g", "epoch": 1, "token": fleet_token(KEY)}) == b""


@pytest.mark.parametrize(
    "line",
    [b"not json\n", b"[]\n", b'{"hello": "g"}\n', b"x" * 100_000, b""],
    ids=["text", "list", "bare", "long", "none"],
)
async def test_garbage_in_place_of_a_hello_ends_that_connection_alone(address: str, line: bytes) -> None:
    listener, fleet = FakeListener(), link(address)
    async with running(FleetServer(address, KEY, FakeKeeper(warm("a"))).run()), running(fleet.run(listener)):
        await becomes_true(lambda: listener.synced)
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        writer.write(line)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert fleet.connected


async def test_an_address_that_is_none_is_refused_with_what_was_expected() -> None:
    with pytest.raises(InvalidParameter, match="unix:/path or tcp:host:port, got 'fleet'"):
        await FleetServer("fleet", KEY, FakeKeeper()).run()


async def _raw(address: str, hello: dict[str, object]) -> bytes:
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    writer.write(json.dumps(hello).encode() + b"\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer
