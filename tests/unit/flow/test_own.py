"""Functions change hands between gateways: stories with a clock, in one process, with slots that are only names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from okiba.core.errors import NotOwner, SlotLost, StoreUnavailable
from okiba.core.function import Function, State
from okiba.core.membership import DEAD_MS, LOOK_S, Member, Roll
from okiba.core.placement import proposed
from okiba.core.slot_kind import kinds_for
from okiba.flow.lend import IDLE_S, LEND_AFTER, LendingScaler
from okiba.flow.own import Ownership, Superseded
from okiba.flow.scale import ScalePolicy
from okiba.ports import Greeting, SlotAddress
from tests.deadline import soon
from tests.fakes.owners import MemoryOwners

FUNCTION = Function("f", "python3.11", "app.handler", "0" * 64, 1, "r1", 0, "AK", state=State.ACTIVE, timeout_s=1)
NAMES = [f"f{number}" for number in range(40)]


class Slots:
    """All slots of the installation: who is connected, in which epoch; and the fleet as each gateway sees it."""

    def __init__(self) -> None:
        self.count = 0
        self.taken: dict[str, SlotAddress] = {}
        self.connected: dict[str, tuple[int, FakeSlot]] = {}
        self.ended: list[str] = []

    def connect(self, address: SlotAddress, epoch: int, slot: FakeSlot) -> None:
        """What an agent does: refuses lower epochs, and closes the former connection."""
        former_epoch, former = self.connected.get(address.id, (0, None))
        if epoch < former_epoch:
            raise SlotLost(f"Okiba.StaleEpoch: {epoch} is over, {former_epoch} holds")
        self.connected[address.id] = epoch, slot
        if former is not None:
            former.cut()


class FakeSlot:
    def __init__(self, address: SlotAddress, on_dead: Callable[[FakeSlot], None]) -> None:
        self.id, self.revision, self.dead, self.ended = address.id, "r1", False, False
        self.greeting = Greeting("w", 1, None, ())
        self._on_dead = on_dead

    def cut(self) -> None:
        if not self.dead:
            self.dead = True
            self._on_dead(self)

    def release(self) -> None:
        self.dead = True


class Queues:
    """Whose queues are emptied, and an answer that may be missing."""

    def __init__(self) -> None:
        self.begun: dict[str, object] = {}
        self.away = 0

    async def begin(self, name, inheritance):
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        self.begun[name] = inheritance

    async def end(self, name):
        self.begun.pop(name, None)


class Gateway:
    """One gateway: the real flow between fakes. It is fleet, opener and peers of its own."""

    def __init__(self, world: World, name: str, life: int, address: str = "a:1") -> None:
        self.world, self.name = world, name
        self.held: dict[str, int] = {}
        self.queues, self.doubts, self.awake = Queues(), [], []
        functions = {name: replace(FUNCTION, name=name) for name in ("f", *NAMES)}
        policy = ScalePolicy(2, 2, 2_000, 60_000, 50)
        kinds = partial(kinds_for, by_memory=False)
        self.scaler = LendingScaler(self, self, functions.get, policy, self.held.get, kinds)
        roll = Roll(Member(name, address, life))
        self.ownership = Ownership(
            roll,
            world.owners,
            self,
            self,
            self.scaler,
            self.queues,
            lambda: world.names,
            lambda _: 1,
            lambda: world.now_s,
            self.held,
        )
        self.function = functions.get
        self.scaler.on_recall = lambda gateway, name: self.world.gateways[gateway].scaler.recalled(name)
        self.scaler.on_return = lambda gateway, slot_id: self.world.gateways[gateway].scaler.returned(slot_id)

    async def call(self, name: str = "f") -> FakeSlot:
        return await self.scaler.acquire(self.function(name), False)

    # as Fleet
    def claim(self, kinds, function, revision):
        self.world.slots.count += 1
        return SlotAddress(f"s{self.world.slots.count}", "python3.11", "unix:/x")

    def took(self, slot, epoch):
        self.world.slots.taken[slot.id] = slot

    def taken(self, function):
        return [slot for slot in self.world.slots.taken.values() if slot.function == function]

    def functions(self):
        return {slot.function for slot in self.world.slots.taken.values()}

    def retire(self, slot_id, epoch):
        self.world.slots.ended.append(slot_id)

    def doubt(self, gateway, life):
        self.doubts.append((gateway, life))

    def want(self, kind, count, each=()): ...
    def disclaim(self, function, revision=""): ...
    def disown(self, slot_id): ...
    def trust(self, gateway, life): ...

    # as SlotOpener
    async def open(self, address, function, on_dead):
        slot = FakeSlot(address, on_dead)
        borrowed = self.scaler.borrowed.get(function.name)
        epoch = self.held.get(function.name) or (borrowed.slots.epoch if borrowed else 0)
        self.world.slots.connect(address, epoch, slot)
        return slot

    def gone(self, slot_id, reason): ...

    async def running(self, address):
        return ""

    # as Peers
    def know(self, members): ...

    def wake(self, gateway, function):
        self.awake.append((gateway, function))

    def offer(self, gateway, function):
        self.world.gateways[gateway].ownership.look_at(function)

    async def released(self, gateway, function, slot_id, timeout_s):
        await self.world.gateways[gateway].scaler.released(slot_id)


class World:
    def __init__(self, *names: str) -> None:
        self.now_s = 1_000.0
        self.names = {"f": None}.keys()
        self.owners = MemoryOwners(lambda: int(self.now_s * 1000))
        self.slots = Slots()
        self.gateways = {name: Gateway(self, name, life) for life, name in enumerate(names, 1)}

    async def pass_time(self, seconds: float, *but: str) -> None:
        """Everybody but those looks every half second."""
        for _ in range(int(seconds / LOOK_S)):
            self.now_s += LOOK_S
            for gateway in self.gateways.values():
                if gateway.name not in but:
                    await gateway.ownership.look()
            await asyncio.sleep(0)

    def owner(self, name: str = "f") -> Gateway:
        return self.gateways[self.owners.records[name].gateway]

    def other(self, name: str = "f") -> Gateway:
        return next(gateway for gateway in self.gateways.values() if gateway is not self.owner(name))


async def settled(*names: str, functions: int = 1) -> World:
    world = World(*names)
    world.names = dict.fromkeys(["f", *NAMES][:functions]).keys()
    await world.pass_time(3)
    return world


async def test_a_gateway_that_is_alone_has_everything_at_once():
    world = World("one")
    world.gateways["one"] = alone = Gateway(world, "one", 1, address="")
    await alone.ownership.look()
    assert alone.held == {"f": 1}
    await soon(lambda: "f" in alone.queues.begun, 5)


async def test_functions_are_shared_out_as_hashing_says_and_each_has_one_owner():
    world = await settled("one", "two", "three", functions=40)
    for name in world.names:
        holders = [gateway.name for gateway in world.gateways.values() if name in gateway.held]
        assert holders == [proposed(name, world.gateways.keys())]


async def test_only_the_owner_empties_a_functions_queue_and_others_wake_it():
    world = await settled("one", "two")
    owner, other = world.owner(), world.other()
    await soon(lambda: "f" in owner.queues.begun, 5)
    assert "f" not in other.queues.begun
    other.ownership.wake("f")
    assert other.awake == [(owner.name, "f")]


async def test_a_dead_owners_functions_are_taken_over_in_a_higher_epoch_and_with_a_doubt():
    world = await settled("one", "two")
    dead, heir = world.owner(), world.other()
    epoch = dead.held["f"]
    await world.pass_time(DEAD_MS / 1000 + 1, dead.name)
    assert heir.held["f"] > epoch
    assert heir.doubts == [(dead.name, dead.ownership.roll.me.life)]


async def test_a_takeover_takes_less_than_four_seconds():
    world = await settled("one", "two")
    dead, heir = world.owner(), world.other()
    began_s = world.now_s
    while "f" not in heir.held:
        await world.pass_time(LOOK_S, dead.name)
    assert world.now_s - began_s <= 4.0


async def test_a_stopped_owner_finds_its_connections_cut_and_gives_everything_up_when_it_wakes():
    world = await settled("one", "two")
    stopped, heir = world.owner(), world.other()
    slot = await stopped.call()
    stopped.scaler.release(slot, False)
    await world.pass_time(DEAD_MS / 1000 + 1, stopped.name)
    heir.scaler.doubt_answered(stopped.name, stopped.ownership.roll.me.life, [])
    taken = await heir.call()
    assert (taken.id, slot.dead) == (slot.id, True)
    await world.pass_time(1)
    assert stopped.held == {}
    with pytest.raises(NotOwner):
        await stopped.call()


async def test_a_stopped_owner_cannot_connect_to_a_slot_that_the_new_one_has():
    world = await settled("one", "two")
    stopped, heir = world.owner(), world.other()
    slot = await stopped.call()
    await world.pass_time(DEAD_MS / 1000 + 1, stopped.name)
    address = world.slots.taken[slot.id]
    with pytest.raises(SlotLost, match="StaleEpoch"):
        await stopped.open(address, stopped.function("f"), lambda _: None)
    heir.scaler.doubt_answered(stopped.name, stopped.ownership.roll.me.life, [])
    assert not (await heir.call()).dead


async def test_functions_move_to_a_gateway_that_comes_once_it_has_settled_and_no_others_move():
    world = await settled("one", "two", functions=40)
    before = {name: world.owners.records[name].gateway for name in world.names}
    world.gateways["new"] = Gateway(world, "new", 9)
    await world.pass_time(1)
    assert {name: world.owners.records[name].gateway for name in world.names} == before
    await world.pass_time(4)
    after = {name: world.owners.records[name].gateway for name in world.names}
    moved = {name for name in world.names if before[name] != after[name]}
    assert moved == {name for name in world.names if proposed(name, ["one", "two", "new"]) == "new"}
    assert moved


async def test_slots_are_handed_over_alive_and_serve_the_next_owner():
    world = await settled("one", "two")
    owner, heir = world.owner(), world.other()
    slot = await owner.call()
    owner.scaler.release(slot, False)
    await owner.ownership.retreat()
    await world.pass_time(1, owner.name)
    assert (await heir.call()).id == slot.id
    assert world.slots.ended == []
    assert heir.doubts == []


async def test_a_call_that_runs_while_its_function_is_handed_over_is_not_cut_off():
    world = await settled("one", "two")
    owner, heir = world.owner(), world.other()
    slot = await owner.call()
    await owner.ownership.retreat()
    await world.pass_time(1, owner.name)
    second = await heir.call()
    assert (slot.dead, second.id != slot.id) == (False, True)
    third = asyncio.create_task(heir.call())
    await asyncio.sleep(0.01)
    assert not third.done()  # the limit is two, and one of them still runs at the former owner
    owner.scaler.release(slot, False)
    assert (await third).id == slot.id


async def test_nothing_changes_hands_while_the_store_is_away():
    world = await settled("one", "two")
    owner, other = world.owner(), world.other()
    world.owners.away = True
    for _ in range(30):
        world.now_s += LOOK_S
        for gateway in world.gateways.values():
            with pytest.raises(StoreUnavailable):
                await gateway.ownership.look()
    world.owners.away = False
    await world.pass_time(1)
    assert world.owner() is owner
    assert (list(owner.held), other.held) == (["f"], {})


async def test_a_queue_that_cannot_be_begun_is_begun_when_the_store_is_back(monkeypatch):
    monkeypatch.setattr("okiba.flow.own.LOOK_S", 0.01)
    world = World("one")
    one = world.gateways["one"]
    one.queues.away = 2
    await one.ownership.look()
    await soon(lambda: "f" in one.queues.begun, 5)


async def test_an_earlier_lifes_functions_are_taken_at_once_and_its_warm_slots_are_doubted():
    world = await settled("one")
    world.gateways["one"] = reborn = Gateway(world, "one", 7)
    await reborn.ownership.look()
    assert reborn.held == {"f": 7}
    assert reborn.doubts == [("one", 1)]


async def test_a_life_that_was_taken_for_dead_goes_on_with_what_nobody_has_taken():
    world = await settled("one")
    one = world.gateways["one"]
    slot = await one.call()
    world.owners._lives = 8
    await one.ownership.reborn()
    await world.pass_time(1)
    assert (one.held, one.ownership.roll.me.life) == ({"f": 9}, 9)
    assert not slot.dead


async def test_a_process_ends_itself_when_a_later_one_goes_by_its_name():
    world = await settled("one")
    await world.owners.beat(Member("one", "a:1", 99))
    world.now_s += 2
    with pytest.raises(Superseded):
        await world.gateways["one"].ownership.look()


async def test_a_deleted_functions_owner_lets_it_go_for_good():
    world = await settled("one", "two")
    owner, other = world.owner(), world.other()
    world.names = {}.keys()
    assert await owner.ownership.function_deleted("f")
    assert not await other.ownership.function_deleted("f")
    assert owner.held == {}
    assert world.owners.records["f"].free


async def test_a_function_that_was_made_anew_at_once_has_an_owner_again():
    world = await settled("one", "two")
    owner = world.owner()
    assert not await owner.ownership.function_deleted("f")
    await world.pass_time(1)
    assert owner.held["f"] > 1


async def test_slots_of_a_function_that_was_deleted_while_nobody_owned_it_are_ended():
    world = await settled("one", "two")
    owner = world.owner()
    slot = await owner.call()
    owner.scaler.release(slot, False)
    world.names = {}.keys()
    await world.pass_time(12, owner.name)
    assert world.slots.ended == [slot.id]


async def test_a_call_finds_the_owner_and_takes_what_is_free_to_be_taken():
    world = await settled("one", "two")
    owner, other = world.owner(), world.other()
    assert await other.ownership.whose("f") == owner.name
    await owner.ownership.retreat()
    other.ownership.mistaken("f")
    await other.ownership.look()
    assert await other.ownership.whose("f") == other.name


# --- lending ----------------------------------------------------------------------------------------------------------


async def pass_on(owner: Gateway, borrower: Gateway, calls: int = LEND_AFTER) -> int:
    """Calls that the borrower passes on, one after the other; how many slots it was lent for it."""
    lent = 0
    for _ in range(calls):
        owner.scaler.release(await owner.call(), False)
        loan = owner.scaler.lend("f", borrower.name)
        if loan is not None:
            lent += 1
            borrower.scaler.borrow(borrower.function("f"), owner.name, loan)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return lent


async def test_a_neighbour_that_passes_many_calls_on_is_lent_a_slot_and_runs_them_itself():
    world = await settled("one", "two")
    owner, borrower = world.owner(), world.other()
    assert await pass_on(owner, borrower, LEND_AFTER - 1) == 0
    assert await pass_on(owner, borrower, 1) == 1
    slot = await borrower.call()
    assert not slot.dead
    with pytest.raises(NotOwner):
        await borrower.call()  # there is one, and the owner has others


async def test_a_lent_slot_counts_at_its_owner():
    world = await settled("one", "two")
    owner, borrower = world.owner(), world.other()
    await pass_on(owner, borrower)
    held = await borrower.call()
    await owner.call()
    waiting = asyncio.create_task(owner.call())
    await asyncio.sleep(0.01)
    assert not waiting.done()  # the limit is two
    borrower.scaler.release(held, False)  # it was recalled, and goes back as soon as its call has ended
    assert (await waiting).id == held.id
    assert world.slots.count == 2


async def test_an_owner_with_callers_who_wait_gets_a_free_slot_back_at_once():
    world = await settled("one", "two")
    owner, borrower = world.owner(), world.other()
    await pass_on(owner, borrower)
    await owner.call()
    assert await owner.call()
    assert borrower.scaler.borrowing() == {owner.name: []}


async def test_a_borrowed_slot_that_nobody_uses_goes_back(monkeypatch):
    monkeypatch.setattr("okiba.flow.lend.IDLE_S", 0.0)
    world = await settled("one", "two")
    owner, borrower = world.owner(), world.other()
    await pass_on(owner, borrower)
    await asyncio.sleep(0.001)
    borrower.scaler.look_after_loans(world.gateways)
    await soon(lambda: owner.scaler.acquire_now(owner.function("f"), False), 5)
    borrower.scaler.look_after_loans(world.gateways)
    assert not borrower.scaler.borrowed
    assert IDLE_S > 0


async def test_what_a_dead_borrower_had_is_the_owners_again_and_the_borrower_is_cut_off():
    world = await settled("one", "two")
    owner, borrower = world.owner(), world.other()
    await pass_on(owner, borrower)
    slot = await borrower.call()
    owner.scaler.look_after_loans([owner.name])
    await soon(lambda: owner.scaler.acquire_now(owner.function("f"), False), 5)
    assert slot.dead


async def test_a_loan_that_never_arrived_comes_back_to_the_owner(monkeypatch):
    monkeypatch.setattr("okiba.flow.lend.UNNAMED_S", 0.0)
    world = await settled("one", "two")
    owner, borrower = world.owner(), world.other()
    for _ in range(LEND_AFTER):
        owner.scaler.release(await owner.call(), False)
        loan = owner.scaler.lend("f", borrower.name)
    assert loan is not None
    await asyncio.sleep(0.001)
    owner.scaler.look_after_loans(world.gateways)
    await soon(lambda: owner.scaler.acquire_now(owner.function("f"), False), 5)


async def test_a_borrower_that_gets_the_function_keeps_what_it_had_borrowed():
    world = await settled("one", "two")
    owner, borrower = world.owner(), world.other()
    await pass_on(owner, borrower)
    slot = await borrower.call()
    await owner.ownership.retreat()
    await world.pass_time(1, owner.name)
    assert borrower.held
    borrower.scaler.release(slot, False)
    assert (await borrower.call()) is slot
    assert not slot.dead
    assert world.slots.ended == []
