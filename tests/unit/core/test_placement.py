"""Who should own what, and what follows from the record."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.core.placement import MAX_DOUBTS, Owner, Step, inherited_doubts, next_step, proposed

NAMES = [f"function-{number}" for number in range(1_000)]
gateways = st.sets(st.text(st.characters(codec="ascii"), min_size=1, max_size=20), min_size=1, max_size=8)


def test_functions_are_spread_evenly():
    counts = Counter(proposed(name, ["a", "b", "c", "d"]) for name in NAMES)
    assert min(counts.values()) > 200


@given(gateways, st.text(min_size=1, max_size=64))
def test_everyone_proposes_the_same_in_whatever_order_he_knows_them(names, function):
    assert proposed(function, sorted(names)) == proposed(function, sorted(names, reverse=True))


@given(gateways, st.text(min_size=1, max_size=10))
def test_when_a_gateway_goes_only_its_own_functions_move(names, gone):
    before = {name: proposed(name, names | {gone}) for name in NAMES[:100]}
    moved = [
        name for name, owner in before.items() if owner != gone and proposed(name, names - {gone} or names) != owner
    ]
    assert moved == [] or names == {gone}


@given(gateways, st.text(min_size=1, max_size=10))
def test_when_a_gateway_comes_functions_move_to_it_alone(names, new):
    after = {name: proposed(name, names | {new}) for name in NAMES[:100]}
    assert all(owner in {new, proposed(name, names)} for name, owner in after.items())


def test_nobody_is_proposed_where_nobody_is():
    assert proposed("f", []) is None


MINE, THEIRS = Owner("me", 7, 9), Owner("other", 5, 9)
FREE = Owner("other", 5, 9, free=True)
ALIVE = {"me": 7, "other": 5}


@pytest.mark.parametrize(
    ("owner", "held", "living", "proposal", "step"),
    [
        pytest.param(None, None, ALIVE, "me", Step.TAKE, id="nobody's is taken by whom it is proposed to"),
        pytest.param(None, None, ALIVE, "other", Step.LEAVE, id="nobody's is left to another"),
        pytest.param(FREE, None, ALIVE, "me", Step.TAKE, id="what was given up is taken though its owner lives"),
        pytest.param(FREE, None, ALIVE, "other", Step.LEAVE, id="what was given up to another is left"),
        pytest.param(MINE, 9, ALIVE, "me", Step.KEEP, id="mine is kept"),
        pytest.param(MINE, 9, ALIVE, "other", Step.GIVE_UP, id="mine goes to whom it is proposed to"),
        pytest.param(MINE, None, ALIVE, "other", Step.TAKE, id="a claim whose answer was lost is made again"),
        pytest.param(Owner("me", 6, 8), None, ALIVE, "other", Step.TAKE, id="an earlier life's is taken at once"),
        pytest.param(THEIRS, None, ALIVE, "me", Step.LEAVE, id="a living owner's is left to it"),
        pytest.param(THEIRS, None, {"me": 7}, "me", Step.TAKE, id="a dead owner's is taken"),
        pytest.param(THEIRS, None, {"me": 7, "other": 6}, "me", Step.TAKE, id="an owner's former life is dead"),
        pytest.param(
            THEIRS, None, {"me": 7}, "third", Step.LEAVE, id="a dead owner's is left to whom it is proposed to"
        ),
        pytest.param(THEIRS, 4, ALIVE, "me", Step.LOSE, id="what another has on record is lost"),
        pytest.param(THEIRS, 11, ALIVE, "me", Step.KEEP, id="what was read before it was taken says nothing"),
        pytest.param(None, 11, ALIVE, "other", Step.KEEP, id="nor does that there was nothing"),
        pytest.param(FREE, 4, ALIVE, "other", Step.LOSE, id="what another took and gave up is lost, too"),
    ],
)
def test_what_the_record_asks_for(owner, held, living, proposal, step):
    assert next_step(owner, "me", 7, held, living, proposal) is step


def test_doubts_are_passed_on_and_bounded():
    chain = None
    for life in range(1, 40):
        chain = Owner(f"gateway-{life}", life, life, doubts=inherited_doubts(chain))
    doubts = inherited_doubts(chain)
    assert len(doubts) == MAX_DOUBTS
    assert doubts[-1] == ("gateway-39", 39)


def test_the_later_of_two_dead_lives_is_doubted():
    assert inherited_doubts(Owner("a", 5, 9, doubts=(("a", 3), ("b", 2)))) == (("a", 5), ("b", 2))
