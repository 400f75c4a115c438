"""Hop 1."""

from __future__ import annotations

import pytest

from okiba.core.errors import RequestTooLarge, StoreUnavailable
from okiba.flow.ingest import MAX_BODY, Ingest
from tests.fakes.inbox import MemoryInbox


@pytest.fixture
def inbox() -> MemoryInbox:
    return MemoryInbox()


@pytest.fixture
def ingest(inbox: MemoryInbox) -> Ingest:
    return Ingest(inbox, clock=lambda: 1234)


@pytest.mark.parametrize("body", [b"", b"{not json", b"\x00\xff", b"x" * MAX_BODY])
async def test_whatever_arrives_is_stored_as_it_is(ingest, inbox, body):
    await ingest.accept("direct", body)

    (notification,) = await inbox.read(10, 0)
    assert (notification.lane, notification.received_ms, notification.body) == ("direct", 1234, body)


async def test_a_body_over_the_limit_is_refused_with_both_numbers(ingest, inbox):
    with pytest.raises(RequestTooLarge, match=f"{MAX_BODY} .*{MAX_BODY + 1}"):
        await ingest.accept("direct", b"x" * (MAX_BODY + 1))

    assert await inbox.read(10, 0) == []


async def test_what_cannot_be_stored_is_never_accepted(ingest, inbox):
    inbox.away = True

    with pytest.raises(StoreUnavailable):
        await ingest.accept("direct", b"{}")
