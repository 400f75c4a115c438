from __future__ import annotations

import socket

import pytest

from okiba_runtime.leaving import Holder, Leaving
from okiba_runtime.slot import Slot

TOLD_US = 1_000_000_000
SECOND_US = 1_000_000


class Scene:
    """A slot that was told to leave, its worker's end of `control`, and who holds it, since an hour ago."""

    def __init__(self) -> None:
        control, self.worker = socket.socketpair()
        ours, self.gateway = socket.socketpair()
        self.worker.setblocking(False)
        self.slot = Slot()
        self.holder = Holder(ours, TOLD_US - 3600 * SECOND_US)
        self.leaving = Leaving(self.slot, control, TOLD_US)
        self.sockets = [control, self.worker, ours, self.gateway]

    def told(self):
        """What the worker has been told: `l`, nothing (None), or that there is nothing more (empty)."""
        try:
            return self.worker.recv(16)
        except BlockingIOError:
            return None


@pytest.fixture
def scene():
    made = Scene()
    yield made
    for each in made.sockets:
        each.close()


def test_the_worker_is_told_once_and_hears_no_more_of_its_holder(scene):
    scene.leaving.go_on(scene.holder, TOLD_US)
    scene.leaving.go_on(scene.holder, TOLD_US)
    assert [scene.told(), scene.told()] == [b"l", None]
    assert scene.holder.connection.recv(1) == b""
    assert scene.leaving.next_us is None


def test_outcomes_of_a_holder_that_is_there_are_not_waited_for(scene):
    scene.leaving.go_on(scene.holder, TOLD_US)
    scene.slot.note(b"kept 1")
    scene.leaving.go_on(scene.holder, TOLD_US)
    assert [scene.told(), scene.told()] == [b"l", b""]


def test_a_holder_that_has_just_come_has_a_second_before_the_worker_is_told(scene):
    scene.slot.note(b"kept 1")
    holder = Holder(scene.holder.connection, TOLD_US - SECOND_US // 4)
    scene.leaving.go_on(holder, TOLD_US)
    assert scene.told() is None
    assert scene.leaving.next_us == TOLD_US + 3 * SECOND_US // 4
    scene.leaving.go_on(holder, scene.leaving.next_us)
    assert scene.told() == b"l"


def test_a_holder_that_has_collected_needs_no_second(scene):
    scene.slot.note(b"kept 1")
    scene.slot.note(b"kept 0")
    scene.leaving.go_on(Holder(scene.holder.connection, TOLD_US), TOLD_US)
    assert scene.told() == b"l"


@pytest.mark.parametrize("was_there", [True, False])
def test_outcomes_whose_holder_is_gone_are_waited_for_as_long_as_the_grace_lasts(scene, was_there):
    scene.gateway.close()
    scene.leaving.go_on(scene.holder if was_there else None, TOLD_US)
    scene.slot.note(b"kept 2")
    scene.leaving.go_on(scene.holder if was_there else None, TOLD_US)
    assert [scene.told(), scene.told()] == [b"l", None]
    assert scene.leaving.next_us == TOLD_US + 25 * SECOND_US
    assert [scene.leaving.overdue(TOLD_US + seconds * SECOND_US) for seconds in (24, 25)] == [False, True]


def test_an_invocation_that_lasts_longer_than_the_grace_may_end(scene):
    scene.leaving.go_on(scene.holder, TOLD_US)
    assert not scene.leaving.overdue(TOLD_US + 900 * SECOND_US)
