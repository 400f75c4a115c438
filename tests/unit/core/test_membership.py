"""Who lives, seen from one of them: stories with a clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from okiba.core.membership import DEAD_MS, LOOK_S, SETTLED_S, Beat, Member, Roll

ME, OTHER = Member("me", "a:1", 1), Member("other", "b:1", 2)


class World:
    """A roll that looks every half second; the store's clock and ours go alike unless a test says otherwise."""

    def __init__(self) -> None:
        self.roll, self.now_s, self.beaten_ms = Roll(ME), 1_000.0, 0

    def look(self, *members: Member, silent: bool = False) -> bool:
        self.now_s += LOOK_S
        if not silent:
            self.beaten_ms = int(self.now_s * 1000)
        return self.roll.look([Beat(member, self.beaten_ms) for member in members], int(self.now_s * 1000), self.now_s)

    def watch(self, seconds: float, *members: Member, silent: bool = False) -> None:
        for _ in range(int(seconds / LOOK_S)):
            self.look(*members, silent=silent)


@pytest.fixture
def world() -> World:
    return World()


def test_this_gateway_lives_and_may_have_functions_from_the_start(world):
    assert world.roll.lives() == {"me": 1}
    assert world.roll.eligible(world.now_s) == {"me"}


def test_those_who_were_there_before_count_as_settled(world):
    world.look(OTHER)
    assert world.roll.eligible(world.now_s) == {"me", "other"}


def test_one_that_comes_later_gets_functions_once_it_has_lived_for_a_while(world):
    world.look()
    assert world.look(OTHER)
    assert world.roll.lives() == {"me": 1, "other": 2}
    assert world.roll.eligible(world.now_s) == {"me"}
    world.watch(SETTLED_S, OTHER)
    assert world.roll.eligible(world.now_s) == {"me", "other"}


def test_one_that_falls_silent_is_dead_after_three_beats(world):
    world.watch(5, OTHER)
    world.watch(DEAD_MS / 1000, OTHER, silent=True)
    assert "other" in world.roll.lives()
    assert world.look(OTHER, silent=True)
    assert "other" not in world.roll.lives()


def test_a_silent_one_gets_no_functions(world):
    world.watch(5, OTHER)
    world.watch(DEAD_MS / 1000 + 0.5, OTHER, silent=True)
    assert world.roll.eligible(world.now_s) == {"me"}


def test_nobody_is_dead_because_the_store_was_away(world):
    world.watch(5, OTHER)
    world.now_s += 60
    world.look(OTHER, silent=True)
    assert "other" in world.roll.lives()
    world.watch(5, OTHER)
    assert "other" in world.roll.lives()


def test_one_that_stays_silent_after_the_store_is_back_is_dead_after_a_while(world):
    world.watch(5, OTHER)
    world.now_s += 60
    world.watch(DEAD_MS / 1000 + 1, OTHER, silent=True)
    assert "other" not in world.roll.lives()


def test_a_new_life_has_to_settle_again(world):
    world.watch(5, OTHER)
    world.look(replace(OTHER, life=3))
    assert world.roll.lives()["other"] == 3
    assert world.roll.eligible(world.now_s) == {"me"}


def test_one_that_leaves_lives_and_gets_nothing_more(world):
    world.watch(5, OTHER)
    assert world.look(replace(OTHER, leaving=True))
    assert "other" in world.roll.lives()
    assert world.roll.eligible(world.now_s) == {"me"}


def test_when_this_gateway_leaves_it_gets_nothing_more_either(world):
    world.look(OTHER)
    world.roll.become(replace(ME, leaving=True))
    assert world.roll.eligible(world.now_s) == {"other"}
