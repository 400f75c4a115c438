"""Asynchronous work: leased, run, settled exactly once, whatever happens between."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from okiba.core.errors import StoreUnavailable
from okiba.core.function import Function, State
from okiba.core.invocation import Ending, Invocation, Outcome
from okiba.core.retry import RetryPolicy
from okiba.core.slot_kind import kinds_for
from okiba.flow import dispatch
from okiba.flow.dispatch import Dispatcher, Drain
from okiba.flow.inherit import Inheritance
from okiba.flow.scale import ScalePolicy, Scaler
from okiba.ports import Greeting, SlotAddress, Work
from tests.fakes.queue import MemoryQueue

FUNCTION = Function("f", "python3.11", "app.handler", "0" * 64, 1, "r1", 0, "AK", state=State.ACTIVE)
GOOD = Outcome(Ending.SUCCEEDED, b"null")
BAD = Outcome(Ending.FUNCTION_ERROR, b'{"errorType": "ValueError"}', "ValueError")
LOST = Outcome(Ending.PLATFORM_FAILURE, b'{"errorType": "Okiba.SlotLost"}', "Okiba.SlotLost", lost_slot=True)


class ScriptedSlot:
    """Answers invocations with what the script says next; the last answer is repeated."""

    def __init__(self, slot_id, script, kept=()):
        self.id, self.revision, self.dead, self.ended = slot_id, "r1", False, False
        self.greeting = Greeting("w", 1, None, tuple(kept))
        self.script, self.ran, self.gate = list(script), [], None

    async def invoke(self, invocation, timeout_ms):
        self.ran.append(invocation.request_id)
        if self.gate is not None:
            await self.gate.wait()
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    async def collect(self, request_id):
        return GOOD

    def release(self):
        pass


class Slots:
    """A fleet with endless warm slots and their opener in one: every slot follows the same script."""

    def __init__(self, script):
        self.slot, self.count = ScriptedSlot("s", script), 0

    def claim(self, kinds, function, revision):
        self.count += 1
        return SlotAddress(f"s{self.count}", "python3.11", "unix:/x")

    async def open(self, address, function, on_dead):
        self.slot.id = address.id
        return self.slot

    def gone(self, slot_id, reason): ...

    async def running(self, address):
        return ""

    def took(self, slot, epoch): ...
    def want(self, kind, count, each=()): ...
    def retire(self, slot_id, epoch): ...
    def disclaim(self, function, revision=""): ...
    def disown(self, slot_id): ...


@asynccontextmanager
async def draining(script, function=FUNCTION, queue=None, delays=(0, 0), known=None):
    """A drain that runs against a queue in memory; `known` tells the function by name, where it changes."""
    queue, slots = queue or MemoryQueue(), Slots(script)
    kinds = partial(kinds_for, by_memory=False)
    scaler = Scaler(slots, slots, lambda name: function, ScalePolicy(10, 1, 200, 10_000, 50), lambda name: 1, kinds)
    inheritance = Inheritance()
    dispatcher = Dispatcher(scaler, time.time, lambda *_: None)
    policy = RetryPolicy(delays)
    functions, arns = known or (lambda name: function), (lambda name: "arn")
    drain = Drain("f", functions, arns, queue, dispatcher, scaler, policy, time.time, inheritance)
    await drain.recover()
    task = asyncio.create_task(drain.run())
    try:
        yield queue, slots.slot, drain, inheritance
    finally:
        task.cancel()


def work(event="e", age_ms=0, payload=b"{}"):
    return Work("f", event, f"r-{event}", payload, "s3", int(time.time() * 1000) - age_ms)


async def ends(queue, event="e"):
    """How the event ended, once it has."""
    async with asyncio.timeout(5):
        while queue.ledger[("f", event)] == "open":
            await asyncio.sleep(0.002)
    return queue.ledger[("f", event)]


async def put(queue, drain, **kind):
    await queue.accept([work(**kind)])
    drain.wake()


async def pump(drain, queue, event="e"):
    """Wakes the drain until the event has ended, as the gateway's look at the queues does."""
    async with asyncio.timeout(5):
        while queue.ledger[("f", event)] == "open":
            drain.wake()
            await asyncio.sleep(0.002)
    return queue.ledger[("f", event)]


async def test_work_runs_once_and_ends():
    async with draining([GOOD]) as (queue, slot, drain, _):
        await put(queue, drain)
        assert await ends(queue) == "succeeded"
        assert slot.ran == ["r-e"]


async def test_a_function_error_is_tried_twice_more_and_then_buried_with_its_event():
    async with draining([BAD]) as (queue, slot, drain, _):
        await put(queue, drain, payload=b'{"n": 1}')
        assert await pump(drain, queue) == "dead"
        assert slot.ran == ["r-e"] * 3
        (letter,) = await queue.dead_letters("f", "", 10)
        assert (letter.reason, letter.attempts, letter.work.payload) == ("RetriesExhausted", 3, b'{"n": 1}')
        assert json.loads(letter.error)["errorType"] == "ValueError"


async def test_a_retry_that_succeeds_is_the_end():
    async with draining([BAD, GOOD]) as (queue, slot, drain, _):
        await put(queue, drain)
        assert await pump(drain, queue) == "succeeded"
        assert len(slot.ran) == 2


async def test_a_function_without_retries_gets_none():
    async with draining([BAD], replace(FUNCTION, retries=0)) as (queue, slot, drain, _):
        await put(queue, drain)
        assert await pump(drain, queue) == "dead"
        assert len(slot.ran) == 1


async def test_failures_of_the_platform_cost_no_retry():
    failed = LOST._replace(lost_slot=False)
    async with draining([failed, failed, failed, failed, GOOD]) as (queue, slot, drain, _):
        await put(queue, drain)
        assert await pump(drain, queue) == "succeeded"
        assert len(slot.ran) == 5


async def test_a_paused_function_s_work_waits_until_it_is_resumed():
    functions = {"f": replace(FUNCTION, paused=True)}
    async with draining([GOOD], known=functions.get) as (queue, slot, drain, _):
        await put(queue, drain)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (slot.ran, queue.ledger["f", "e"]) == ([], "open")
        functions["f"] = FUNCTION
        drain.wake()
        assert await ends(queue) == "succeeded"


async def test_work_whose_slots_end_before_they_have_it_is_given_others_at_no_cost():
    never = Outcome(Ending.PLATFORM_FAILURE, b"{}", "Okiba.SlotLost", unstarted=True)
    async with draining([never, GOOD]) as (queue, slot, drain, _):
        await put(queue, drain)
        assert await ends(queue) == "succeeded"
        assert slot.ran == ["r-e"] * 2


async def test_work_whose_slots_never_live_to_have_it_is_poison_in_the_end():
    never = Outcome(Ending.PLATFORM_FAILURE, b"{}", "Okiba.SlotLost", unstarted=True)
    async with draining([never]) as (queue, slot, drain, _):
        await put(queue, drain)
        assert await pump(drain, queue) == "dead"
        assert slot.ran == ["r-e"] * 6


async def test_a_call_that_is_given_another_slot_runs_what_the_function_is_by_then():
    slots, functions, opened = Slots([LOST._replace(lost_slot=False, unstarted=True), GOOD]), {"f": FUNCTION}, []
    really_open = slots.open

    async def open_and_update(address, function, on_dead):
        opened.append(function.revision)
        functions["f"] = replace(FUNCTION, revision="r2")
        slots.slot.revision = function.revision
        return await really_open(address, function, on_dead)

    slots.open = open_and_update
    kinds = partial(kinds_for, by_memory=False)
    scaler = Scaler(slots, slots, functions.get, ScalePolicy(10, 1, 200, 10_000, 50), lambda name: 1, kinds)
    dispatcher = Dispatcher(scaler, time.time, lambda *_: None)
    outcome = await dispatcher.call(FUNCTION, Invocation("id", "f", b"{}", "arn"), time.time(), "sync")
    assert (outcome.ending, opened) == (Ending.SUCCEEDED, ["r1", "r2"])


async def test_work_under_which_three_slots_die_is_poison():
    async with draining([LOST]) as (queue, slot, drain, _):
        await put(queue, drain)
        assert await pump(drain, queue) == "dead"
        assert len(slot.ran) == 3
        assert (await queue.dead_letters("f", "", 10))[0].reason == "Poison"


async def test_an_event_that_is_too_old_is_buried_unrun():
    async with draining([GOOD]) as (queue, slot, drain, _):
        await put(queue, drain, age_ms=(FUNCTION.max_event_age_s + 1) * 1000)
        assert await pump(drain, queue) == "expired"
        assert slot.ran == []
        assert (await queue.dead_letters("f", "", 10))[0].reason == "EventAgeExceeded"


async def test_a_function_that_may_never_run_buries_its_events_at_once():
    async with draining([GOOD], replace(FUNCTION, reserved_concurrency=0)) as (queue, slot, drain, _):
        await put(queue, drain)
        assert await pump(drain, queue) == "dead"
        assert slot.ran == []
        assert (await queue.dead_letters("f", "", 10))[0].reason == "ZeroReservedConcurrency"


async def test_an_outcome_is_settled_when_the_store_is_back():
    async with draining([GOOD]) as (queue, slot, drain, _):
        slot.gate = asyncio.Event()
        await put(queue, drain)
        async with asyncio.timeout(5):
            while not slot.ran:
                await asyncio.sleep(0.002)
        queue.away = True
        slot.gate.set()
        await asyncio.sleep(0.05)
        queue.away = False
        assert await pump(drain, queue) == "succeeded"
        assert slot.ran == ["r-e"]


async def inherited(queue):
    """Work that an earlier life of the gateway had leased when it died."""
    await queue.accept([work()])
    (lease,) = await queue.lease("f", 1, int(time.time() * 1000))
    return lease


async def test_what_an_earlier_life_had_leased_is_run_again_when_no_slot_knows_of_it():
    queue = MemoryQueue()
    await inherited(queue)
    async with draining([GOOD], queue=queue) as (_, slot, drain, inheritance):
        inheritance.complete()
        assert await pump(drain, queue) == "succeeded"
        assert slot.ran == ["r-e"]


async def test_what_a_slot_finished_after_its_gateway_died_is_settled_and_not_run_again():
    queue = MemoryQueue()
    await inherited(queue)
    async with draining([GOOD], queue=queue) as (_, slot, drain, inheritance):
        await drain.adopted(ScriptedSlot("old", [GOOD], kept=["r-e.1"]), "")
        inheritance.complete()
        assert await pump(drain, queue) == "succeeded"
        assert slot.ran == []


async def test_a_kept_outcome_of_an_earlier_attempt_decides_nothing():
    queue = MemoryQueue()
    await inherited(queue)
    async with draining([GOOD], queue=queue) as (_, slot, drain, inheritance):
        stale = ScriptedSlot("old", [BAD], kept=["r-e.7"])
        await drain.adopted(stale, "")
        inheritance.complete()
        assert await pump(drain, queue) == "succeeded"
        assert slot.ran == ["r-e"]


async def test_a_lease_whose_answer_was_lost_is_taken_up_and_what_is_in_hand_left_alone():
    async with draining([GOOD]) as (queue, slot, drain, _):
        slot.gate = asyncio.Event()
        await put(queue, drain, event="in-hand")
        async with asyncio.timeout(5):
            while not slot.ran:
                await asyncio.sleep(0.002)
        await queue.accept([work("lost")])
        real, lost = queue.lease, []

        async def answer_lost(function, count, now_ms):
            queue.lease = real
            lost.extend(await real(function, count, now_ms))
            raise StoreUnavailable("the answer was lost")

        queue.lease = answer_lost
        slot.gate.set()
        assert await pump(drain, queue, "in-hand") == "succeeded"
        assert await pump(drain, queue, "lost") == "succeeded"
        assert [lease.work.event_id for lease in lost] == ["lost"]
        assert slot.ran == ["r-in-hand", "r-lost"]


async def test_a_lease_that_a_stopped_store_carries_out_late_is_taken_up_too(monkeypatch):
    monkeypatch.setattr(dispatch, "_STORE_PAUSE_S", 0.01)
    monkeypatch.setattr(dispatch, "_LATE_S", 0.05)
    async with draining([GOOD]) as (queue, slot, drain, _):
        lease, recover = queue.lease, queue.recover

        async def unanswered(function, count, now_ms):
            queue.lease = lease
            raise StoreUnavailable("stopped")

        async def before_the_late_command(function, held=()):
            queue.recover = recover
            found = await recover(function, held)
            assert [each.work.event_id for each in await lease("f", 1, 0)] == ["late"]  # to nobody's knowledge
            return found

        queue.lease, queue.recover = unanswered, before_the_late_command
        await put(queue, drain, event="late")
        assert await ends(queue, "late") == "succeeded"
        assert slot.ran == ["r-late"]


async def test_what_a_slot_still_runs_waits_for_that_slot():
    queue = MemoryQueue()
    await inherited(queue)
    async with draining([GOOD], queue=queue) as (_, slot, drain, inheritance):
        inheritance.running.add("r-e")
        inheritance.complete()
        await asyncio.sleep(0.05)
        assert queue.ledger[("f", "e")] == "open"
        await drain.adopted(None, "r-e")  # the slot died before it could be taken over
        assert await pump(drain, queue) == "succeeded"
        assert slot.ran == ["r-e"]


async def test_a_void_lease_settles_nothing():
    queue = MemoryQueue()
    lease = await inherited(queue)
    async with draining([GOOD], queue=queue) as (_, _slot, drain, inheritance):
        inheritance.complete()
        assert await pump(drain, queue) == "succeeded"
        assert not await queue.bury(lease, BAD, "RetriesExhausted")
        assert queue.ledger[("f", "e")] == "succeeded"


@pytest.mark.parametrize("count", [50])
async def test_a_backlog_drains_whole(count):
    async with draining([GOOD]) as (queue, slot, drain, _):
        await queue.accept([work(f"e{number}") for number in range(count)])
        drain.wake()
        for number in range(count):
            assert await ends(queue, f"e{number}") == "succeeded"
        assert sorted(slot.ran) == sorted(f"r-e{number}" for number in range(count))
