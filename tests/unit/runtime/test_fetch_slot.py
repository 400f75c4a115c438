"""A slot between its order and its worker's having fetched what the order names."""

from __future__ import annotations

import pytest

from okiba_runtime import notices, slot
from okiba_runtime.endings import Ending
from okiba_runtime.slot import Slot
from tests.unit.runtime.orders import order

SECOND = 1_000_000
FAILED = notices.unfetched(b'{"errorType": "Okiba.FetchFailed", "errorMessage": "code: gone"}')[:-1]


@pytest.fixture
def promised():
    probe = Slot()
    probe.promise(order(init_ms=10_000), now_us=0, patience_us=SECOND)
    return probe


def test_a_promised_slot_is_nobody_s_yet(promised):
    assert (promised.state, promised.order, promised.promised.name) == (slot.FETCHING, None, "probe")


def test_once_all_is_fetched_the_init_phase_has_its_whole_time(promised):
    promised.note(notices.fetched(9 * SECOND)[:-1])

    assert (promised.state, promised.order.name, promised.promised) == (slot.INIT, "probe", None)
    assert promised.overdue(18 * SECOND) is None
    assert promised.overdue(19 * SECOND) == Ending("init_timeout", None, limit_ms=10_000)


def test_what_the_worker_says_at_once_is_understood_in_its_order(promised):
    promised.note_all([notices.fetched(5)[:-1], notices.init(2_000)[:-1], b"start id-1 100 3000000"])
    assert (promised.state, promised.request_id) == (slot.BUSY, "id-1")


def test_a_slot_that_could_not_fetch_is_warm_and_takes_another_order(promised):
    promised.note(FAILED)

    assert (promised.state, promised.order, promised.running) == (slot.WARM, None, None)
    assert promised.fetch_error["errorMessage"] == "code: gone"
    promised.specialize(order(), now_us=5)
    assert promised.state == slot.INIT


def test_a_worker_that_cannot_even_give_up_ends_the_slot(promised):
    assert promised.overdue(11 * SECOND - 1) is None
    assert promised.overdue(11 * SECOND) == Ending("shutdown", None)


@pytest.mark.parametrize("line", [b"fetched x", b"fetched", b"fetched 1 2"])
def test_a_notice_that_no_worker_writes_is_ignored(promised, line):
    promised.note(line)
    assert promised.state == slot.FETCHING


@pytest.mark.parametrize("line", [FAILED, notices.fetched(5)[:-1]])
def test_a_handler_that_says_it_fetched_changes_nothing(line):
    probe = Slot()
    probe.specialize(order(), now_us=0)
    probe.note(notices.init(2_000)[:-1])
    probe.note(line)
    assert (probe.state, probe.order.name) == (slot.IDLE, "probe")


def test_an_error_that_is_no_json_is_an_error_all_the_same(promised):
    promised.note(b"unfetched nonsense")
    assert (promised.state, promised.fetch_error["errorType"]) == (slot.WARM, "Okiba.FetchFailed")
