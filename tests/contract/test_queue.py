"""What every Queue does."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_queue import RedisQueue
from okiba.core.errors import Conflict, InvalidParameter
from okiba.core.invocation import Ending, Outcome
from okiba.ports import Lease, Queue, Work
from tests.deadline import until_async
from tests.fakes.queue import MemoryQueue

NOW = time.time_ns() // 1_000_000
DONE = Outcome(Ending.SUCCEEDED, b"null")
RAISED = Outcome(Ending.FUNCTION_ERROR, b'{"errorType":"ValueError"}', "ValueError")
LOST = Outcome(Ending.PLATFORM_FAILURE, b"{}", lost_slot=True)


@pytest.fixture
def queue(link: RedisLink | None) -> Queue:
    return RedisQueue(link, "default", "gateway-1", 60_000) if link else MemoryQueue()


def work(number: int = 1, function: str = "thumbnails") -> Work:
    return Work(
        function=function,
        event_id=f"event-{number}",
        request_id=f"request-{number}",
        payload=f'{{"n":{number}}}\xff\x00'.encode("latin-1"),
        source="s3",
        accepted_ms=NOW - 1000,
        trace_id=f"Root={number}",
        client_context=b"{}",
    )


async def leased(queue: Queue, count: int = 1, function: str = "thumbnails", now_ms: int = NOW) -> list[Lease]:
    return await queue.lease(function, count, now_ms)


async def test_accepted_work_is_leased_whole(queue):
    assert await queue.accept([work()]) == [True]

    (lease,) = await leased(queue)

    assert lease.work == work()
    assert (lease.attempt, lease.losses, lease.backlog) == (1, 0, 0)


async def test_a_function_without_work_has_nothing_to_lease(queue):
    assert await leased(queue) == []
    assert await queue.depths(["thumbnails"]) == {"thumbnails": (0, 0)}


async def test_an_event_is_accepted_once_however_often_it_is_told(queue):
    assert await queue.accept([work(), work(), work(2)]) == [True, False, True]
    assert await queue.accept([work(2), work(3)]) == [False, True]

    assert len(await leased(queue, 10)) == 3


async def test_an_event_is_a_duplicate_after_its_end(queue):
    await queue.accept([work()])
    (lease,) = await leased(queue)
    await queue.succeed(lease, DONE)

    assert await queue.accept([work()]) == [False]
    assert await leased(queue) == []


async def test_one_event_is_work_for_every_function_that_it_concerns(queue):
    works = [work(1, "thumbnails"), work(2, "thumbnails"), work(1, "index"), work(1, "thumbnails")]

    assert await queue.accept(works) == [True, True, True, False]
    assert [lease.work.event_id for lease in await leased(queue, 10, "index")] == ["event-1"]
    assert [lease.work.event_id for lease in await leased(queue, 10)] == ["event-1", "event-2"]


async def test_a_large_batch_is_accepted_in_order(queue):
    works = [work(number) for number in range(300)]

    assert all(await queue.accept(works))

    assert [lease.work.request_id for lease in await leased(queue, 300)] == [item.request_id for item in works]


async def test_a_batch_larger_than_one_script_call_is_accepted(queue):
    works = [replace(work(number), payload=bytes(700_000)) for number in range(4)]

    assert await queue.accept(works) == [True] * 4
    assert len(await leased(queue, 4)) == 4


async def test_leases_say_how_many_wait_behind_them(queue):
    await queue.accept([work(number) for number in range(5)])

    first = await leased(queue, 2)
    second = await leased(queue, 2)

    assert {lease.backlog for lease in first} == {3}
    assert {lease.backlog for lease in second} == {1}


async def test_leased_work_is_not_leased_again(queue):
    await queue.accept([work()])
    await leased(queue)

    assert await leased(queue) == []


async def test_a_retry_waits_until_it_is_due(queue):
    await queue.accept([work()])
    (lease,) = await leased(queue)
    assert await queue.retry(lease, RAISED, NOW + 60_000, lost=False, gives_back=False)

    assert await leased(queue, now_ms=NOW + 59_999) == []
    (again,) = await leased(queue, now_ms=NOW + 60_000)

    assert (again.attempt, again.losses, again.work) == (2, 0, work())


async def test_retries_that_are_due_come_before_the_backlog(queue):
    await queue.accept([work(1), work(2), work(3)])
    (lease,) = await leased(queue)
    await queue.retry(lease, RAISED, NOW + 1, lost=False, gives_back=False)

    leases = await leased(queue, 2, now_ms=NOW + 1)

    assert [item.work.event_id for item in leases] == ["event-1", "event-2"]
    assert leases[0].backlog == 1


async def test_an_attempt_given_back_does_not_count(queue):
    await queue.accept([work()])
    (lease,) = await leased(queue)
    await queue.retry(lease, LOST, NOW, lost=True, gives_back=True)

    (again,) = await leased(queue)

    assert (again.attempt, again.losses) == (1, 1)


async def test_a_settled_invocation_ignores_every_later_outcome(queue):
    await queue.accept([work()])
    (lease,) = await leased(queue)
    assert await queue.succeed(lease, DONE)

    assert not await queue.succeed(lease, DONE)
    assert not await queue.retry(lease, RAISED, NOW, lost=False, gives_back=False)
    assert not await queue.bury(lease, RAISED, "RetriesExhausted")
    assert await leased(queue) == []
    assert await queue.dead_letters("thumbnails", "", 10) == []


@pytest.mark.parametrize("void", ["of an earlier attempt", "empty", "made up"])
async def test_a_void_token_changes_nothing(queue, void):
    await queue.accept([work()])
    (earlier,) = await leased(queue)
    await queue.retry(earlier, LOST, NOW, lost=True, gives_back=True)
    tokens = {"of an earlier attempt": earlier.token, "empty": "", "made up": "1-1/1"}
    stale = replace(earlier, token=tokens[void])

    for waiting in (True, False):  # while it waits for the next attempt, and during that
        current = None if waiting else (await leased(queue))[0]
        assert not await queue.succeed(stale, DONE)
        assert not await queue.retry(stale, RAISED, NOW, lost=True, gives_back=True)
        assert not await queue.bury(stale, RAISED, "RetriesExhausted")

    assert current is not None
    assert (current.attempt, current.losses, current.work) == (1, 1, work())
    assert await queue.succeed(current, DONE)


async def test_buried_work_is_a_dead_letter_whole(queue):
    await queue.accept([work()])
    (lease,) = await leased(queue)

    assert await queue.bury(lease, RAISED, "RetriesExhausted")

    (letter,) = await queue.dead_letters("thumbnails", "", 10)
    assert letter.work == work()
    assert (letter.reason, letter.attempts, letter.losses) == ("RetriesExhausted", 1, 0)
    assert letter.error == RAISED.payload
    assert abs(letter.died_ms - NOW) < 600_000
    assert await queue.dead_letter("thumbnails", letter.id) == letter
    assert await queue.dead_counts(["thumbnails", "index"]) == {"thumbnails": 1, "index": 0}
    assert await queue.accept([work()]) == [False]
    assert await leased(queue) == []


async def test_the_loss_that_makes_it_poison_counts_and_its_attempt_does_not(queue):
    await queue.accept([work()])
    for _ in range(2):
        (lease,) = await leased(queue)
        await queue.retry(lease, LOST, NOW, lost=True, gives_back=True)
    (lease,) = await leased(queue)
    await queue.bury(lease, LOST, "Poison")

    (letter,) = await queue.dead_letters("thumbnails", "", 10)
    assert (letter.reason, letter.attempts, letter.losses) == ("Poison", 0, 3)


async def test_dead_letters_are_read_page_by_page(queue):
    await queue.accept([work(number) for number in range(5)])
    for lease in await leased(queue, 5):
        await queue.bury(lease, RAISED, "RetriesExhausted")

    first = await queue.dead_letters("thumbnails", "", 3)
    second = await queue.dead_letters("thumbnails", first[-1].id, 3)

    assert [letter.work.event_id for letter in first + second] == [f"event-{number}" for number in range(5)]
    assert await queue.dead_letter("thumbnails", "99999-0") is None


async def test_what_an_earlier_life_had_leased_is_leased_again_and_its_leases_are_void(queue, link):
    await queue.accept([work(number) for number in range(4)])
    settled, waiting, *held = await leased(queue, 3)
    await queue.succeed(settled, DONE)
    await queue.retry(waiting, RAISED, NOW + 60_000, lost=False, gives_back=False)
    later_life = RedisQueue(link, "default", "gateway-2", 60_000) if link else queue

    recovered = await later_life.recover("thumbnails")

    assert [lease.work for lease in recovered] == [lease.work for lease in held]
    assert [(lease.attempt, lease.losses) for lease in recovered] == [(1, 0)]
    assert not await queue.succeed(held[0], DONE)
    assert [lease.work.event_id for lease in await later_life.lease("thumbnails", 9, NOW)] == ["event-3"]
    assert [lease.attempt for lease in await later_life.lease("thumbnails", 9, NOW + 60_000)] == [2]
    assert await later_life.succeed(recovered[0], DONE)


async def test_there_is_nothing_to_recover_where_nothing_was_leased(queue):
    assert await queue.recover("thumbnails") == []
    await queue.accept([work()])
    assert await queue.recover("thumbnails") == []
    assert len(await leased(queue)) == 1


async def test_more_is_recovered_than_one_look_finds(queue):
    await queue.accept([work(number) for number in range(250)])
    await leased(queue, 250)

    assert len(await queue.recover("thumbnails")) == 250


async def test_depths_count_what_waits_and_what_is_delayed_but_not_what_runs(queue):
    await queue.accept([work(number) for number in range(4)])
    first, _ = await leased(queue, 2)
    assert (await queue.depths(["thumbnails"]))["thumbnails"][0] == 2
    await queue.retry(first, RAISED, NOW + 60_000, lost=False, gives_back=False)

    depths = await queue.depths(["thumbnails", "index"])

    assert depths["index"] == (0, 0)
    assert depths["thumbnails"][0] == 3
    assert depths["thumbnails"][1] >= 1000


async def test_open_work_of_a_forgotten_function_ends_as_dead_letters(queue):
    await queue.accept([work(number) for number in range(150)] + [work(1, "index")])
    running, delayed = await leased(queue, 2)
    await queue.retry(delayed, RAISED, NOW + 60_000, lost=False, gives_back=False)

    assert await queue.forget("thumbnails") == 150

    letters = await queue.dead_letters("thumbnails", "", 1000)
    assert {letter.reason for letter in letters} == {"FunctionDeleted"}
    assert {letter.work.event_id for letter in letters} == {f"event-{number}" for number in range(150)}
    assert {letter.work.event_id: letter.attempts for letter in letters}["event-1"] == 1
    assert not await queue.succeed(running, DONE)
    assert await leased(queue) == []
    assert await queue.depths(["thumbnails"]) == {"thumbnails": (0, 0)}
    assert await queue.forget("thumbnails") == 0
    assert len(await leased(queue, function="index")) == 1


async def test_a_function_made_anew_gets_new_work(queue):
    await queue.accept([work()])
    await queue.forget("thumbnails")

    assert await queue.accept([work(2)]) == [True]
    (lease,) = await leased(queue)
    await queue.bury(lease, RAISED, "RetriesExhausted")

    reasons = [letter.reason for letter in await queue.dead_letters("thumbnails", "", 10)]
    assert reasons == ["FunctionDeleted", "RetriesExhausted"]


async def test_an_id_that_is_none_is_refused_as_the_callers_mistake(link):
    if link is None:
        pytest.skip("the twin is never asked by strangers")
    queue = RedisQueue(link, "default", "gateway-1", 60_000)
    for call in (queue.dead_letters("thumbnails", "(1-1", 1), queue.dead_letter("thumbnails", "+")):
        with pytest.raises(InvalidParameter):
            await call


async def test_the_ledger_knows_an_event_from_its_acceptance_on(queue):
    await queue.accept([work(), work(2)])
    (lease, _) = await leased(queue, 2)
    await queue.succeed(lease, DONE)

    assert await queue.seen("thumbnails", ["event-1", "event-2", "event-3"]) == [True, True, False]
    assert await queue.seen("index", ["event-1"]) == [False]
    assert await queue.seen("thumbnails", []) == []


async def test_more_events_are_looked_up_than_one_script_call_takes(queue):
    await queue.accept([work(number) for number in range(0, 1200, 2)])

    known = await queue.seen("thumbnails", [f"event-{number}" for number in range(1200)])

    assert known == [number % 2 == 0 for number in range(1200)]


async def buried(queue: Queue) -> str:
    await queue.accept([work()])
    (lease,) = await leased(queue)
    assert await queue.bury(lease, RAISED, "RetriesExhausted")
    (letter,) = await queue.dead_letters("thumbnails", "", 10)
    return letter.id


async def test_a_redriven_dead_letter_is_the_same_event_with_all_its_attempts_before_it(queue):
    letter = await buried(queue)

    assert await queue.redrive("thumbnails", letter, NOW + 5)

    (lease,) = await leased(queue)
    assert lease.work == replace(work(), accepted_ms=NOW + 5)
    assert (lease.attempt, lease.losses) == (1, 0)
    assert await queue.dead_letters("thumbnails", "", 10) == []
    assert await queue.accept([work()]) == [False], "the ledger still knows the event"
    assert await queue.succeed(lease, DONE)


async def test_a_dead_letter_is_redriven_once(queue):
    letter = await buried(queue)

    assert await queue.redrive("thumbnails", letter, NOW)
    assert not await queue.redrive("thumbnails", letter, NOW)
    assert len(await leased(queue, 10)) == 1


async def test_a_purged_dead_letter_is_gone_and_its_event_stays_known(queue):
    letter = await buried(queue)

    assert await queue.purge("thumbnails", letter)
    assert not await queue.purge("thumbnails", letter)
    assert await queue.dead_letters("thumbnails", "", 10) == []
    assert await queue.accept([work()]) == [False]


async def test_an_event_that_is_being_tried_is_not_redriven_beside_it(link):
    if link is None:
        pytest.skip("the memory queue forgets nothing")
    forgetful = RedisQueue(link, "default", "gateway-1", 1)
    letter = await buried(forgetful)
    await until_async(lambda: _accepted(forgetful), "the ledger to forget the event", 5)

    with pytest.raises(Conflict, match="being tried already"):
        await forgetful.redrive("thumbnails", letter, NOW)
    assert len(await forgetful.dead_letters("thumbnails", "", 10)) == 1


async def _accepted(queue: Queue) -> bool:
    return await queue.accept([work()]) == [True]
