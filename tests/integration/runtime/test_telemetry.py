"""The long poll: when it answers, and what it tells of the log."""

from __future__ import annotations

import time

import pytest

from okiba_runtime import processes
from tests.integration.runtime.conftest import wait_until

PRINTS = """
    import sys
    def handler(event, context):
        text, count = event
        for _ in range(count):
            sys.stdout.write(text)
"""


@pytest.fixture
def slot(slots, code):
    made = slots()
    made.specialize(code(PRINTS))
    made.greet()
    return made


def test_without_news_the_answer_comes_after_the_wait(slot):
    offset = len(slot.telemetry().body)
    began = time.monotonic()

    response = slot.telemetry(offset, wait_ms=300)

    assert 0.29 <= time.monotonic() - began < 4
    assert (response["Okiba-State"], response.body) == ("idle", b"")


def test_another_state_than_the_one_seen_is_told_at_once(slot):
    began = time.monotonic()

    response = slot.telemetry(10**6, wait_ms=5_000, seen="busy")

    assert time.monotonic() - began < 4
    assert response["Okiba-State"] == "idle"


def test_another_invocation_than_the_one_seen_is_told_at_once(slots, code):
    slot = slots()
    slot.specialize(code("def handler(event, context):\n    while True: pass"))
    slot.greet()
    request_id = slot.begin({}, timeout_ms=60_000)
    wait_until(lambda: slot.telemetry().get("Okiba-Running") == request_id)
    began = time.monotonic()

    other = slot.telemetry(10**6, wait_ms=5_000, seen="busy:another")
    same = slot.telemetry(10**6, wait_ms=200, seen=f"busy:{request_id}")

    assert (other["Okiba-State"], other["Okiba-Running"], same["Okiba-Running"]) == ("busy", request_id, request_id)
    assert 0.19 < time.monotonic() - began < 5


def test_new_output_is_told_before_the_wait_is_over(slot):
    offset = len(slot.telemetry().body)
    began = time.monotonic()
    slot.begin(["news\n", 1])

    response = slot.telemetry(offset, wait_ms=5_000)

    assert time.monotonic() - began < 4
    assert response.body


def test_output_is_told_at_most_four_times_a_second(slot):
    offset, began, polls = 0, time.monotonic(), 0
    while time.monotonic() - began < 1:
        slot.invoke(["x\n", 1])
        response = slot.telemetry(offset, wait_ms=5_000)
        offset = int(response["Okiba-Log-From"]) + len(response.body)
        polls += 1

    assert polls <= 5


def test_an_answer_is_followed_by_its_whole_log_at_once(slot):
    for _ in range(20):
        offset = int(slot.telemetry(10**9)["Okiba-Log-From"])
        request_id = slot.invoke(["line\n", 1])["Okiba-Request-Id"]

        body = slot.telemetry(offset).body.decode()

        assert body.startswith(f"START RequestId: {request_id} ")
        assert f"\nREPORT RequestId: {request_id}\t" in body


def test_sixty_four_megabytes_are_printed_and_the_newest_four_kept(slot):
    request_id = slot.invoke(["x" * 65_535 + "\n", 1024], timeout_ms=60_000)["Okiba-Request-Id"]

    first = slot.telemetry()
    assert int(first["Okiba-Log-Dropped"]) == int(first["Okiba-Log-From"]) > 59 * 1024 * 1024
    assert len(first.body) == 256 * 1024

    offset, kept = int(first["Okiba-Log-From"]), b""
    while body := slot.telemetry(offset).body:
        kept += body
        offset += len(body)
    assert 3 * 1024 * 1024 <= len(kept) <= 5 * 1024 * 1024
    assert f"\nREPORT RequestId: {request_id}" in kept[-300:].decode()
    assert abs(int(first["Okiba-Log-Time-Ms"]) - time.time() * 1000) < 60_000


def test_one_endless_line_harms_nobody(slot):
    slot.invoke(["x" * 1_000_000, 16], timeout_ms=60_000)

    end = int(slot.telemetry(10**9)["Okiba-Log-From"])
    assert end > 16_000_000
    assert "x\nEND RequestId: " in slot.telemetry(end - 400).body.decode()
    assert slot.invoke(["", 0]).status == 200


def test_output_between_invocations_is_told(slots, code):
    slot = slots()
    slot.specialize(code("""
        import threading, time
        def later():
            time.sleep(0.1)
            print("later")
        def handler(event, context):
            threading.Thread(target=later).start()
    """))  # fmt: skip
    slot.greet()
    slot.invoke({})

    wait_until(lambda: slot.log().endswith("later\n"))


def test_a_hot_worker_does_not_wake_its_agent_for_each_call(slot):
    slot.invoke(["", 0])
    before = _switches(slot.pid)

    began = time.monotonic()
    for _ in range(500):
        slot.invoke(["", 0])
    elapsed = time.monotonic() - began

    assert _switches(slot.pid) - before <= elapsed / 0.02 * 1.5 + 10


def test_an_idle_agent_sleeps(slot):
    slot.invoke(["", 0])
    wait_until(lambda: _sleeps(slot.pid))


def _sleeps(pid: int) -> bool:
    before = _switches(pid)
    ends = time.monotonic() + 0.2
    while time.monotonic() < ends:
        time.sleep(0.05)
    return _switches(pid) == before


def _switches(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))


def test_a_slot_without_a_layer_learns_nothing_to_preload(slot):
    slot.invoke(["", 0])

    assert slot.telemetry().get("Okiba-Preload") is None
    assert slot.telemetry()["Okiba-Isolation"] in {"tmp,pid,ipc", "pid,ipc", "none"}
    assert processes.children(slot.pid)
