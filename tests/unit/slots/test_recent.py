"""What the dispatcher remembers of invocations that ran, for who asks what happened last."""

from __future__ import annotations

from tests.unit.slots.test_drain import GOOD, draining, ends, put


async def test_what_ran_is_remembered_until_its_function_is_gone() -> None:
    async with draining([GOOD]) as (queue, _, drain, _):
        await put(queue, drain)
        await ends(queue)
        dispatcher = drain._dispatcher
        assert [ran.request_id for ran in dispatcher.recent("f")] == ["r-e"]
        dispatcher.forget("f")
        assert dispatcher.recent("f") == []
