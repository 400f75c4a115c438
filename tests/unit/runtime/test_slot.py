from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba_runtime import notices, slot
from okiba_runtime.endings import Ending
from okiba_runtime.slot import Slot
from tests.unit.runtime.orders import order

SECOND = 1_000_000


def _idle() -> Slot:
    probe = Slot()
    probe.specialize(order(), now_us=0)
    probe.note(notices.init(2_000)[:-1])
    return probe


def test_a_slot_s_life_goes_from_warm_over_init_to_idle_and_busy_and_back():
    probe = Slot()
    assert probe.state == slot.WARM

    probe.specialize(order(), now_us=5)
    assert (probe.state, probe.initialising) == (slot.INIT, True)

    probe.note(notices.init(2_000)[:-1])
    assert probe.state == slot.IDLE

    probe.note(b"start id-1 100 3000000")
    assert (probe.state, probe.request_id) == (slot.BUSY, "id-1")

    probe.note(b"end id-1 4096")
    assert (probe.state, probe.request_id, probe.peak_kb) == (slot.IDLE, "", 4096)


@pytest.mark.parametrize(
    "line", [b"", b"nonsense", b"start a b c", b"start a 1", b"end", b"failed 1", b"failed 1 {", b"init"]
)
def test_what_no_worker_of_ours_writes_changes_nothing(line):
    probe = Slot()
    probe.specialize(order(), now_us=0)

    probe.note(line)

    assert probe.state == slot.INIT


def test_an_invocation_that_the_handler_invents_inside_another_is_ignored():
    probe = _idle()
    probe.note(b"start true 100 3000000")

    probe.note(b"start forged 200 900000000000")

    assert probe.request_id == "true"
    assert probe.running.deadline_us == 100 + 3 * SECOND


def test_an_invocation_is_overdue_at_its_deadline_and_not_before():
    probe = _idle()
    probe.note(b"start id-1 1000000 3000000")

    assert probe.overdue(4 * SECOND - 1) is None
    assert probe.overdue(4 * SECOND) == Ending("timeout", "id-1", limit_ms=3_000)


def test_an_init_phase_is_overdue_after_its_own_limit():
    probe = Slot()
    probe.specialize(order(init_ms=10_000), now_us=0)

    assert probe.overdue(10 * SECOND) == Ending("init_timeout", None, limit_ms=10_000)


def test_an_idle_slot_is_never_overdue():
    assert _idle().overdue(10**12) is None


def test_a_timeout_is_logged_as_lambda_does():
    probe = _idle()
    probe.note(b"start id-1 0 1000000")

    lines = probe.end(probe.overdue(SECOND), SECOND + 15_000, 1_795_363_200.25, open_line=True)

    assert probe.state == slot.EXITED
    assert lines.decode().split("\n") == [
        "",
        "2026-11-22T16:00:00.250Z id-1 Task timed out after 1.00 seconds",
        "",
        "END RequestId: id-1",
        "REPORT RequestId: id-1\tDuration: 1000.00 ms\tBilled Duration: 1002 ms\tMemory Size: 256 MB\t"
        "Max Memory Used: 0 MB\tInit Duration: 2.00 ms\tStatus: timeout",
        "",
    ]


def test_a_worker_that_exits_between_invocations_ends_without_a_report():
    probe = _idle()

    lines = probe.end(probe.gone(3, for_memory=False), SECOND, 0, open_line=False)

    assert lines == b"Error: Runtime exited with error: exit status 3\nRuntime.ExitError\n"


def test_a_failed_init_phase_s_error_is_what_the_slot_ends_with():
    probe = Slot()
    probe.specialize(order(), now_us=0)
    error = {"errorType": "Runtime.ImportModuleError", "errorMessage": "x", "requestId": "", "stackTrace": []}
    probe.note(notices.failed(10, json.dumps(error).encode())[:-1])

    ending = probe.gone(0, for_memory=False)

    assert ending.reason == "init_error"
    assert json.loads(ending.error_json()) == error
    assert probe.end(ending, 0, 0, open_line=False) == b""


def test_a_killed_worker_counts_as_out_of_memory_only_when_the_kernel_says_so():
    probe = _idle()
    probe.note(b"start id-1 0 1000000")

    assert probe.gone(-9, for_memory=True).reason == "out_of_memory"
    assert probe.gone(-9, for_memory=False).reason == "signal"
    assert probe.gone(1, for_memory=True).reason == "exit"


BESIDE = [b"kept 1", b"kept 0", b"modules PIL,boto3", b"no notice"]


@given(
    st.integers(0, 6),
    st.booleans(),
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(0, 13), st.sampled_from(BESIDE)), max_size=5),
)
def test_many_notices_at_once_leave_the_slot_as_they_would_one_by_one(before, init_first, after, beside):
    calls = [line for n in range(10) for line in (b"start id-%d %d 3000000" % (n, n), b"end id-%d %d" % (n, 4096 + n))]
    at_once, one_by_one = (_idle() if not init_first else _initialising() for _ in range(2))
    first = [b"init 5"] if init_first else []
    for line in calls[:before] if not init_first else []:
        at_once.note(line)
        one_by_one.note(line)
    lines = [*first, *calls[0 if init_first else before :][:after]]
    for place, line in beside:
        lines.insert(place, line)

    at_once.note_all(lines)
    for line in lines:
        one_by_one.note(line)

    assert (at_once.state, at_once.running) == (one_by_one.state, one_by_one.running)
    assert (at_once.last_request_id, at_once.kept) == (one_by_one.last_request_id, one_by_one.kept)


def test_a_call_right_behind_a_slot_s_first_is_timed_as_itself():
    probe = _idle()
    probe.note_all([b"start id-1 0 3000000"])
    probe.note_all([b"end id-1 4096", b"modules PIL", b"start id-2 1000000 3000000"])
    assert probe.overdue(3_500_000) is None
    assert probe.overdue(4_000_000).request_id == "id-2"


@pytest.mark.parametrize("behind", [[], [b"kept 1"], [b"kept 1", b"kept 0"]], ids=["nothing", "one", "two"])
def test_the_last_invocation_begun_is_known_whatever_is_told_behind_it(behind):
    probe = _idle()
    probe.note_all([b"start id-1 100 3000000", b"end id-1 4096", b"start id-2 200 3000000", b"end id-2 4096", *behind])
    assert probe.last_request_id == "id-2"


def _initialising() -> Slot:
    probe = Slot()
    probe.specialize(order(), now_us=0)
    return probe
