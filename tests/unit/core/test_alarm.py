import pytest

from okiba.core.alarm import Alarm


class Clock:
    """Timers by their time; one that is cancelled is gone."""

    def __init__(self):
        self.timers = []

    def call_at(self, due, callback):
        clock, timer = self, (due, callback)

        class Handle:
            def cancel(self):
                clock.timers.remove(timer)

        self.timers.append(timer)
        return Handle()

    def ring(self):
        _, callback = self.timers.pop(0)
        callback()


@pytest.fixture
def clock():
    return Clock()


def dues(clock):
    return [due for due, _ in clock.timers]


def test_it_is_set_for_the_earliest_time_asked_for(clock):
    alarm = Alarm(clock.call_at, lambda: None)
    for due in (30.0, 10.0, 20.0):
        alarm.by(due)
    assert dues(clock) == [10.0]


def test_it_rings_once_and_can_be_asked_again_while_it_rings(clock):
    rung = []

    def ring():
        rung.append(True)
        if len(rung) == 1:
            alarm.by(50.0)

    alarm = Alarm(clock.call_at, ring)
    alarm.by(10.0)
    clock.ring()
    assert dues(clock) == [50.0]
    clock.ring()
    assert (len(rung), dues(clock)) == (2, [])


def test_it_is_not_set_for_a_time_that_never_comes(clock):
    Alarm(clock.call_at, lambda: None).by(float("inf"))
    assert dues(clock) == []


def test_one_that_was_stopped_does_not_ring_until_it_is_asked_again(clock):
    alarm = Alarm(clock.call_at, lambda: None)
    alarm.by(10.0)
    alarm.stop()
    assert dues(clock) == []
    alarm.by(20.0)
    assert dues(clock) == [20.0]
