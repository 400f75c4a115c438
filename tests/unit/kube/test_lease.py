from __future__ import annotations

import copy

import pytest

from okiba.adapters.kube_lease import LEASE_S, RENEW_S, Candidate, Leadership
from okiba.core.errors import ClusterUnavailable, Conflict, NotLeading


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeLeases:
    """One Lease; a write with an old version is refused."""

    def __init__(self) -> None:
        self.stored = None
        self.away = False

    def lease(self, namespace, name):
        self._answer()
        return copy.deepcopy(self.stored)

    def create_lease(self, namespace, lease):
        self._answer()
        if self.stored is not None:
            raise Conflict("there is one")
        return self._put(lease, "1")

    def replace_lease(self, namespace, lease):
        self._answer()
        version = self.stored["metadata"]["resourceVersion"]
        if lease["metadata"]["resourceVersion"] != version:
            raise Conflict("it has changed")
        return self._put(lease, str(int(version) + 1))

    def _put(self, lease, version):
        self.stored = copy.deepcopy(lease)
        self.stored["metadata"]["resourceVersion"] = version
        return self.stored

    def _answer(self):
        if self.away:
            raise ClusterUnavailable("nobody answers")


async def call(method, *args):
    return method(*args)


class Field:
    def __init__(self) -> None:
        self.clock, self.leases = Clock(), FakeLeases()

    def candidate(self, identity: str) -> Candidate:
        leadership = Leadership(self.clock)
        return Candidate(self.leases, call, "okiba", "okiba-controller", identity, leadership, self.clock)


@pytest.fixture
def field() -> Field:
    return Field()


async def test_the_first_leads_and_the_second_waits(field):
    first, second = field.candidate("a"), field.candidate("b")
    assert await first.try_once()
    assert not await second.try_once()
    first.leadership.check()
    with pytest.raises(NotLeading):
        second.leadership.check()


async def test_a_leader_that_does_not_renew_stops_before_another_may_lead(field):
    first, second = field.candidate("a"), field.candidate("b")
    assert await first.try_once()
    assert not await second.try_once()
    field.clock.now += RENEW_S
    with pytest.raises(NotLeading):
        first.leadership.check()
    assert not await second.try_once()
    field.clock.now += LEASE_S - RENEW_S + 0.1
    assert await second.try_once()
    assert field.leases.stored["spec"]["leaseTransitions"] == 1


async def test_a_former_leader_that_wakes_up_does_not_renew_what_is_anothers(field):
    first, second = field.candidate("a"), field.candidate("b")
    assert await first.try_once()
    await second.try_once()
    field.clock.now += LEASE_S + 0.1
    assert await second.try_once()
    assert not await first.try_once(renewing=True)
    with pytest.raises(NotLeading):
        first.leadership.check()


async def test_renewing_goes_on_from_when_it_was_asked_for(field):
    first = field.candidate("a")
    assert await first.try_once()
    field.clock.now += RENEW_S - 1
    assert await first.try_once(renewing=True)
    assert first.leadership.left_s == RENEW_S


async def test_a_leader_without_an_api_server_ends_its_term(field):
    first = field.candidate("a")
    assert await first.try_once()
    field.leases.away = True
    field.clock.now += RENEW_S
    with pytest.raises(NotLeading):
        await first.keep()


async def test_a_leader_that_gives_up_lets_the_next_one_lead_at_once(field):
    first, second = field.candidate("a"), field.candidate("b")
    assert await first.try_once()
    assert not await second.try_once()
    await first.give_up()
    assert await second.try_once()
    with pytest.raises(NotLeading):
        first.leadership.check()


async def test_of_two_that_take_an_expired_lease_one_wins(field):
    first, second, third = field.candidate("a"), field.candidate("b"), field.candidate("c")
    assert await first.try_once()
    await second.try_once()
    await third.try_once()
    field.clock.now += LEASE_S + 0.1
    assert [await second.try_once(), await third.try_once()] == [True, False]
