"""An attempt whose payload cannot be had just now costs nothing, and is made again."""

from __future__ import annotations

import pytest

from okiba.core.errors import NotFound, StoreUnavailable
from okiba.core.invocation import Ending, Outcome
from okiba.ports import Work
from tests.deadline import soon
from tests.fakes.queue import MemoryQueue
from tests.unit.slots.test_drain import FUNCTION, GOOD, draining, ends, pump, put

FORGOTTEN = Outcome(Ending.PLATFORM_FAILURE, b"{}")


class ForgetfulQueue(MemoryQueue):
    """Cannot tell a payload for the first so many times."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self.error, self.times = error, times

    async def payload(self, work: Work) -> bytes:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return await super().payload(work)


class DeletedMeanwhile(MemoryQueue):
    """Its function is deleted while the payload is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.functions = {"f": FUNCTION}

    async def payload(self, work: Work) -> bytes:
        self.functions.clear()
        return await super().payload(work)


async def test_a_function_that_was_deleted_while_its_payload_was_fetched_does_not_run() -> None:
    queue = DeletedMeanwhile()
    async with draining([GOOD], queue=queue, known=queue.functions.get) as (_, slot, drain, _):
        await put(queue, drain)
        await soon(lambda: not queue.functions)
        (lease,) = await queue.recover("f")
        await queue.bury(lease, FORGOTTEN, "FunctionDeleted")
        assert await ends(queue) == "dead"
        assert slot.ran == []


@pytest.mark.parametrize("error", [StoreUnavailable("away"), NotFound("gone")], ids=["store away", "payload gone"])
async def test_an_attempt_without_its_payload_costs_no_retry(error: Exception) -> None:
    queue = ForgetfulQueue(error, times=4)
    async with draining([GOOD], queue=queue) as (_, slot, drain, _):
        await put(queue, drain)
        assert await pump(drain, queue) == "succeeded"
        assert slot.ran == ["r-e"]
