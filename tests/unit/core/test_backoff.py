import pytest

from okiba.core.backoff import Backoff, Setbacks


def test_each_pause_is_twice_the_one_before_up_to_the_last():
    backoff = Backoff(0.5, 3.0)
    assert [backoff.failed() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.failures == 5


def test_after_a_success_the_first_pause_comes_again():
    backoff = Backoff(0.5, 3.0)
    backoff.failed()
    backoff.failed()
    backoff.succeeded()
    assert backoff.failed() == 0.5


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)])
def test_chance_takes_up_to_half_of_a_pause(chance, pause_s):
    assert Backoff(2.0, 9.0).failed(chance) == pause_s


def test_pauses_stay_finite_however_often_it_fails():
    assert Backoff(0.5, 30.0, failures=10_000).failed() == 30.0


@pytest.fixture
def setbacks():
    return Setbacks(1.0, 30.0)


def test_what_failed_is_not_tried_until_its_pause_is_over(setbacks):
    assert setbacks.failed("python3.11", "no room", 100.0) == 1.0
    assert [setbacks.pausing("python3.11", now_s) for now_s in (100.0, 100.9, 101.0)] == [True, True, False]
    assert not setbacks.pausing("python3.12", 100.0)


def test_failures_begun_beside_each_other_count_once(setbacks):
    setbacks.failed("python3.11", "no room", 100.0)
    assert setbacks.failed("python3.11", "no room either", 100.5) is None
    assert setbacks.failed("python3.11", "still none", 101.0) == 2.0


def test_after_a_success_nothing_is_held_against_it(setbacks):
    setbacks.failed("python3.11", "no room", 100.0)
    setbacks.succeeded("python3.11")
    assert not setbacks.pausing("python3.11", 100.0)
    assert setbacks.failed("python3.11", "no room", 100.0) == 1.0


def test_the_newest_reason_is_told_for_a_while_behind_the_pause(setbacks):
    setbacks.failed("python3.11", "no room", 100.0)
    setbacks.failed("python3.11", "forbidden", 101.0)
    assert list(setbacks.reasons(now_s=112.9, told_s=10.0)) == ["forbidden"]
    assert list(setbacks.reasons(now_s=113.0, told_s=10.0)) == []
