from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
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


def link(address: str, life: int = 1, key: str = KEY, name: str = "gateway-1") -> FleetLink:
    return FleetLink(address, name, life, key)


class Fleet:
    """A server, and a keeper whose slots end as soon as they are told to, unless `stuck`."""

    def __init__(self, address: str, *slots: SlotAddress) -> None:
        self.keeper = FakeKeeper(*(slot for slot in slots if slot.function))
        self.server = FleetServer(address, KEY, self.keeper)
        self.make(*(slot for slot in slots if not slot.function))

    def make(self, *slots: SlotAddress) -> None:
        for slot in slots:
            self.keeper.have[slot.id] = slot
            self.server.deal(slot)

    def end(self, slot_id: str, reason: str = "ended") -> None:
        self.keeper.have.pop(slot_id, None)
        self.server.gone(slot_id, reason)


@pytest.fixture
def address(sockets: Path) -> str:
    return f"unix:{sockets}/fleet"


async def test_a_gateway_gets_every_slot_and_then_the_word_that_these_were_all(address: str) -> None:
    listener = FakeListener()
    fleet = link(address)
    server = Fleet(address, warm("a"), taken("b")).server
    async with running(server.run()), running(fleet.run(listener)):
        await becomes_true(lambda: listener.synced)
        assert listener.dealt == [taken("b"), warm("a")]
        assert fleet.warm() == {KIND: 1}
        assert fleet.taken("thumbnails") == [taken("b")]


async def test_a_claim_takes_the_first_kind_that_has_a_slot(address: str) -> None:
    layered = warm("layered", f"{KIND}+{'0' * 64}")
    listener, fleet = FakeListener(), link(address)
    async with (
        running(Fleet(address, warm("plain"), layered).server.run()),
        running(fleet.run(listener)),
    ):
        await becomes_true(lambda: listener.synced)
        kinds = (layered.kind, KIND)
        assert [fleet.claim(kinds, "f", "r1") for _ in range(3)] == [layered, warm("plain"), None]


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
        assert [fleet.claim([KIND], "f", "r1"), fleet.claim([KIND], "f", "r1")] == [warm("b"), None]


async def test_what_a_gateway_says_reaches_the_keeper(address: str) -> None:
    listener, fleet, server = FakeListener(), link(address), Fleet(address, warm("a"), warm("b"))
    keeper = server.keeper
    async with running(server.server.run()), running(fleet.run(listener)):
        await becomes_true(lambda: listener.synced)
        fleet.took(taken("a"), 1)
        fleet.want(KIND, 7)
        fleet.retire("b", 0)
        await becomes_true(lambda: keeper.retired)
        assert (keeper.taken, keeper.wanted, keeper.retired) == ([("a", "thumbnails", "r1")], {KIND: 7}, ["b"])


async def test_what_was_said_while_the_controller_was_away_is_said_when_it_is_back(address: str) -> None:
    listener, fleet = FakeListener(), link(address)
    async with running(fleet.run(listener)):
        async with running(Fleet(address, warm("a"), warm("b")).server.run()):
            await becomes_true(lambda: listener.synced)
        await becomes_true(lambda: not fleet.connected)
        fleet.took(taken("a"), 1)
        fleet.want(KIND, 3)
        fleet.retire("b", 0)
        keeper = FakeKeeper(warm("a"), warm("b"))
        async with running(FleetServer(address, KEY, keeper).run()):
            await becomes_true(lambda: keeper.retired)
            assert (keeper.taken, keeper.wanted, keeper.retired) == ([("a", "thumbnails", "r1")], {KIND: 3}, ["b"])


async def test_what_a_gateway_holds_stays_its_own_over_the_death_of_the_controller(address: str) -> None:
    listener, fleet = FakeListener(), link(address)
    async with running(fleet.run(listener)):
        async with running(Fleet(address, warm("a"), warm("b")).server.run()):
            await becomes_true(lambda: listener.synced == 1)
            assert fleet.claim([KIND], "f", "r1") == warm("b")
        async with running(FleetServer(address, KEY, FakeKeeper(warm("a"), warm("b"))).run()):
            await becomes_true(lambda: listener.synced == 2)
        assert listener.dealt == [warm("a"), warm("b")]
        assert [fleet.claim([KIND], "f", "r1"), fleet.claim([KIND], "f", "r1")] == [warm("a"), None]


async def test_a_slot_that_ended_while_the_controller_was_away_is_reported_gone(address: str) -> None:
    listener, fleet = FakeListener(), link(address)
    async with running(fleet.run(listener)):
        async with running(Fleet(address, warm("a"), taken("b")).server.run()):
            await becomes_true(lambda: listener.synced)
        async with running(FleetServer(address, KEY, FakeKeeper(taken("b"))).run()):
            await becomes_true(lambda: listener.synced == 2)
        assert [slot_id for slot_id, _ in listener.gone] == ["a"]
        assert fleet.claim([KIND], "f", "r1") is None


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
    former = link(address, life=1)
    async with running(Fleet(address, warm("a")).server.run()), running(former.run(old)):
        await becomes_true(lambda: old.synced)
        async with running(link(address, life=2).run(new)):
            await becomes_true(lambda: new.synced)
            await becomes_true(lambda: old.refused)
            assert b"refused" in await _raw(address, {"hello": "gateway-1", "epoch": 1, "token": fleet_token(KEY)})


# --- several gateways -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def gateways(fleet: Fleet, *names: str) -> AsyncIterator[list[tuple[FleetLink, FakeListener]]]:
    """A server and its gateways, each told of everything."""
    links = [(link(fleet.server._address, name=name), FakeListener()) for name in names]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(fleet.server.run()))
        for each, listener in links:
            await stack.enter_async_context(running(each.run(listener)))
            await becomes_true(lambda listener=listener: listener.synced)
        yield links


async def test_warm_slots_are_shared_out_evenly_and_each_goes_to_one_gateway(address: str) -> None:
    fleet = Fleet(address)
    async with gateways(fleet, "one", "two") as ((one, heard), (two, overheard)):
        fleet.make(*(warm(name) for name in "abcdef"))
        await becomes_true(lambda: len(heard.dealt) + len(overheard.dealt) == 6)
        assert one.warm() == two.warm() == {KIND: 3}
        assert {slot.id for slot in heard.dealt} | {slot.id for slot in overheard.dealt} == set("abcdef")


async def test_a_new_slot_goes_where_callers_lack_one(address: str) -> None:
    fleet = Fleet(address)
    async with gateways(fleet, "one", "two") as ((_, heard), (two, overheard)):
        two.want(KIND, 2, (2,))
        await becomes_true(lambda: fleet.keeper.wanted.get(KIND) == 2)
        fleet.make(warm("a"), warm("b"))
        await becomes_true(lambda: len(overheard.dealt) == 2)
        assert heard.dealt == []


async def test_what_gateways_want_is_summed(address: str) -> None:
    fleet = Fleet(address)
    async with gateways(fleet, "one", "two") as ((one, _), (two, _)):
        one.want(KIND, 2)
        two.want(KIND, 5)
        await becomes_true(lambda: fleet.keeper.wanted.get(KIND) == 7)
        one.want(KIND, 0)
        await becomes_true(lambda: fleet.keeper.wanted.get(KIND) == 5)


async def test_a_gateway_without_slots_gets_what_another_has_to_spare(address: str) -> None:
    fleet = Fleet(address)
    async with gateways(fleet, "one", "two") as ((one, heard), (two, overheard)):
        fleet.make(*(warm(name) for name in "abcd"))
        await becomes_true(lambda: len(heard.dealt) + len(overheard.dealt) == 4)
        claimed = [two.claim([KIND], "f", "r1") for _ in range(2)]
        two.want(KIND, 1, (1,))
        await becomes_true(lambda: len(overheard.dealt) == 3)
        assert one.warm() == {KIND: 1}
        assert two.claim([KIND], "f", "r1") not in {*claimed, None}


async def test_slots_that_were_taken_are_known_to_all_gateways(address: str) -> None:
    fleet = Fleet(address, warm("a"))
    async with gateways(fleet, "one", "two") as ((one, _), (two, heard)):
        slot = one.claim([KIND], "f", "r1")
        assert slot is not None
        one.took(replace(slot, function="f", revision="r1"), 4)
        await becomes_true(lambda: heard.dealt)
        assert two.taken("f") == [replace(slot, function="f", revision="r1")]


async def test_the_warm_slots_of_a_gateway_that_is_found_dead_are_reaped_and_named_until_they_are_gone(
    address: str,
) -> None:
    fleet = Fleet(address)
    async with gateways(fleet, "one", "two") as ((one, heard), (two, told)):
        fleet.make(warm("a"), warm("b"))
        await becomes_true(lambda: one.warm() and two.warm())
        (ghost,) = heard.dealt
        two.doubt("one", 1)
        await becomes_true(lambda: told.answers)
        assert told.answers == [("one", 1, (ghost.id,))]
        assert fleet.keeper.retired == [ghost.id]
        fleet.end(ghost.id)
        await becomes_true(lambda: told.gone)
        two.doubt("one", 1)
        await becomes_true(lambda: told.answers[1:] == [("one", 1, ())])


async def test_what_a_stopped_gateway_took_before_it_was_found_dead_is_told_before_the_answer(address: str) -> None:
    fleet = Fleet(address, warm("a"))
    async with gateways(fleet, "one", "two") as ((one, _), (two, told)):
        one.took(replace(warm("a"), function="f", revision="r1"), 4)
        two.doubt("one", 1)
        await becomes_true(lambda: told.answers)
        assert told.answers == [("one", 1, ())]
        assert [slot.id for slot in two.taken("f")] == ["a"]


async def test_a_gateway_that_was_found_dead_comes_back_as_another_life_with_nothing_in_hand(address: str) -> None:
    fleet = Fleet(address, warm("a"))
    async with gateways(fleet, "one", "two") as ((one, heard), (two, told)):
        two.doubt("one", 1)
        await becomes_true(lambda: told.answers and heard.refused)
        one.reborn(2)
        await becomes_true(lambda: heard.synced == 2)
        assert one.warm() == {}
        assert one.claim([KIND], "f", "r1") is None


async def test_a_former_owner_cannot_end_a_slot_that_a_later_one_has(address: str) -> None:
    fleet = Fleet(address, warm("a"), warm("b"))
    slot = replace(warm("a"), function="f", revision="r1")
    async with gateways(fleet, "one", "two") as ((one, _), (two, heard)):
        one.took(slot, 4)
        await becomes_true(lambda: heard.dealt)
        two.took(slot, 5)
        await becomes_true(lambda: fleet.keeper.taken == [("a", "f", "r1")] * 2)
        one.retire("a", 4)
        one.want(KIND, 1)
        await becomes_true(lambda: fleet.keeper.wanted.get(KIND) == 1)
        assert fleet.keeper.retired == []
        two.retire("a", 5)
        await becomes_true(lambda: fleet.keeper.retired == ["a"])


async def test_a_gateway_that_says_goodbye_leaves_its_warm_slots_to_the_others(address: str) -> None:
    fleet = Fleet(address)
    async with gateways(fleet, "one", "two") as ((one, heard), (two, overheard)):
        fleet.make(warm("a"), warm("b"))
        await becomes_true(lambda: heard.dealt and overheard.dealt)
        await one.leave()
        await becomes_true(lambda: two.warm() == {KIND: 2})
        assert fleet.keeper.retired == []


async def test_the_warm_slots_of_a_gateway_that_does_not_come_back_are_reaped(address: str) -> None:
    fleet = Fleet(address, warm("a"))
    async with gateways(fleet, "one"):
        pass
    async with running(fleet.server.run()):
        await becomes_true(lambda: fleet.keeper.retired == ["a"])


async def test_all_slots_of_a_pod_go_to_one_gateway_and_to_one_function(address: str) -> None:
    fleet = Fleet(address)
    pods = [warm(f"{pod}.{number}") for pod in ("p", "q") for number in range(3)]
    async with gateways(fleet, "one", "two") as ((one, heard), (_, overheard)):
        fleet.make(*pods)
        await becomes_true(lambda: len(heard.dealt) == len(overheard.dealt) == 3)
        assert len({slot.id[0] for slot in heard.dealt}) == 1
        first = one.claim([KIND], "f", "r1")
        assert one.claim([KIND], "g", "r1") is None
        assert one.claim([KIND], "f", "r2") is None
        second = one.claim([KIND], "f", "r1")
        assert first and second and first.id[0] == second.id[0]


@pytest.mark.parametrize(
    "line",
    [b"not json\n", b"[]\n", b'{"hello": "g"}\n', b"x" * 100_000, b""],
    ids=["text", "list", "bare", "long", "none"],
)
async def test_garbage_in_place_of_a_hello_ends_that_connection_alone(address: str, line: bytes) -> None:
    listener, fleet = FakeListener(), link(address)
    async with running(Fleet(address, warm("a")).server.run()), running(fleet.run(listener)):
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


async def test_a_gateway_follows_the_leader_and_never_one_of_a_lower_epoch(sockets: Path) -> None:
    addresses = [f"unix:{sockets}/{name}" for name in ("old", "new")]
    leader: list[tuple[str, int] | None] = [None]

    async def led() -> tuple[str, int] | None:
        return leader[0]

    listener, fleet = FakeListener(), FleetLink("", "gateway-1", 1, KEY, led)
    old, new = (Fleet(address, warm(address[-3:])) for address in addresses)
    async with running(fleet.run(listener)), running(old.server.run()), running(new.server.run()):
        leader[0] = addresses[0], 4
        await becomes_true(lambda: listener.synced == 1)
        leader[0] = addresses[1], 5
        await becomes_true(lambda: listener.synced == 2)
        assert [slot.id for slot in listener.dealt] == ["old", "new"]
        leader[0] = addresses[0], 4  # the former leader wakes up and still says so
        await becomes_true(lambda: fleet.connected)
        await asyncio.sleep(1.5)
        assert (fleet.connected, listener.synced) == (True, 2)
