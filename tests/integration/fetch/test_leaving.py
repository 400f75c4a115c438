"""A slot that is told to leave: while it imports, while it fetches, and with outcomes that nobody has collected."""

from __future__ import annotations

import json
import os
import signal
import socket
import time

import pytest

from okiba_runtime import processes, system
from tests.integration.fetch.conftest import StrangeStore, answer, packed
from tests.integration.runtime.conftest import alive, wait_until
from tests.integration.runtime.gateway import DEADLINE_S, Connection

ECHO = packed({"app.py": "import time\ndef handler(event, _):\n    time.sleep(event)\n    return f'slept {event}'"})

PROMPT_S = 5.0
"""Far below what anything here would take otherwise."""


@pytest.fixture
def slot(serving):
    return serving(ECHO)


def leaves_promptly(agents, slot):
    """Whether the slot ends, well and soon, with all its processes."""
    began, below = time.monotonic(), processes.descendants(slot.pid)
    status = agents.process(slot).wait(DEADLINE_S)
    return status == 0 and time.monotonic() - began < PROMPT_S and not any(map(alive, below))


def hang_up(slot):
    """The gateway dies, and its connection with it."""
    slot.data.socket.close()


# --- while it imports and fetches -------------------------------------------------------------------------------------


def test_a_slot_that_imports_modules_ahead_leaves_at_once(agents, store, tmp_path):
    slot, begun = agents(), tmp_path / "begun"
    source = f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(60)"
    slow = store.part(packed({"python/heavy.py": source}))
    with Connection(slot.address) as preloading:
        wish = json.dumps({"layers": [slow], "modules": ["heavy"]}).encode()
        preloading.send("POST", "/okiba/v1/preload", {}, wish)
        wait_until(begun.exists)

        os.kill(slot.pid, signal.SIGTERM)

        assert "the slot ended" in preloading.receive().json["dropped"]
        assert leaves_promptly(agents, slot)


def test_a_slot_whose_new_modules_are_ready_just_then_leaves_all_the_same(agents, store):
    for delay_ms in range(0, 24, 4):
        slot = agents()
        quick = store.part(packed({"python/heavy.py": f"import time\ntime.sleep({delay_ms / 1000})"}))
        with Connection(slot.address) as preloading:
            wish = json.dumps({"layers": [quick], "modules": ["heavy"]}).encode()
            preloading.send("POST", "/okiba/v1/preload", {}, wish)
            wait_until(lambda slot=slot: len(processes.children(slot.pid)) == 2)
            os.kill(slot.pid, signal.SIGTERM)
            assert leaves_promptly(agents, slot)


def test_a_slot_that_fetches_a_layer_ahead_leaves_at_once(agents):
    slot = agents()
    with StrangeStore(answer(b"", "503 Slow Down")) as strange, Connection(slot.address) as preloading:
        wish = {"layers": [{"url": strange.url, "sha256": "0" * 64}], "modules": ["heavy"]}
        preloading.send("POST", "/okiba/v1/preload", {}, json.dumps(wish).encode())
        wait_until(lambda: strange.heads)

        os.kill(slot.pid, signal.SIGTERM)

        assert "the slot ended" in preloading.receive().json["dropped"]
        assert leaves_promptly(agents, slot)


def test_a_slot_that_fetches_its_function_leaves_at_once(agents):
    slot = agents()
    with StrangeStore(answer(b"", "503 Slow Down")) as strange, Connection(slot.address) as specializing:
        order = json.dumps(slot.order("", code={"url": strange.url, "sha256": "0" * 64})).encode()
        specializing.send("POST", "/okiba/v1/specialize", {}, order)
        wait_until(lambda: strange.heads)

        os.kill(slot.pid, signal.SIGTERM)

        assert specializing.receive().json["errorType"] == "Okiba.FetchFailed"
        assert leaves_promptly(agents, slot)


# --- with outcomes ----------------------------------------------------------------------------------------------------


def kept(slot, *names):
    """Runs an invocation for each name whose outcome is kept; their names as greetings tell them."""
    return [f"{slot.invoke(0, Okiba_Keep=name)['Okiba-Request-Id']}.{name}" for name in names]


def collect(slot, outcome):
    return slot.data.ask("GET", f"/okiba/v1/outcomes/{outcome}")


def test_outcomes_whose_holder_is_gone_are_kept_until_they_are_collected(agents, slot):
    one, other = kept(slot, "1", "2")
    hang_up(slot)

    os.kill(slot.pid, signal.SIGTERM)

    assert slot.greet(8)["Okiba-Outcomes"] == f"{one},{other}"
    assert collect(slot, one).json == collect(slot, other).json == "slept 0"
    assert slot.data.at_end()
    assert leaves_promptly(agents, slot)


def test_an_invocation_that_ends_after_its_holder_is_collected_too(agents, slot):
    request_id = slot.begin(0.5, Okiba_Keep="3")
    wait_until(lambda: slot.telemetry()["Okiba-State"] == "busy")
    os.kill(slot.pid, signal.SIGTERM)
    hang_up(slot)
    wait_until(lambda: slot.telemetry()["Okiba-State"] == "idle")

    assert slot.greet(8)["Okiba-Outcomes"] == f"{request_id}.3"
    assert collect(slot, f"{request_id}.3").json == "slept 0.5"
    assert leaves_promptly(agents, slot)


def test_a_holder_that_is_there_has_the_answers_and_is_not_waited_for(agents, slot):
    kept(slot, "1")
    os.kill(slot.pid, signal.SIGTERM)
    assert slot.data.at_end()
    assert leaves_promptly(agents, slot)


def test_a_holder_that_has_just_come_may_collect(agents, slot):
    (outcome,) = kept(slot, "1")
    hang_up(slot)
    slot.greet(8)

    os.kill(slot.pid, signal.SIGTERM)

    assert collect(slot, outcome).json == "slept 0"
    assert leaves_promptly(agents, slot)


def test_a_holder_that_wants_none_of_the_outcomes_keeps_the_slot_a_second(agents, slot):
    kept(slot, "1")
    hang_up(slot)
    os.kill(slot.pid, signal.SIGTERM)
    slot.greet(8)
    assert slot.data.at_end()
    assert leaves_promptly(agents, slot)


def test_a_slot_that_leaves_runs_nothing_more_for_who_collects(agents, slot):
    kept(slot, "1")
    hang_up(slot)
    os.kill(slot.pid, signal.SIGTERM)
    slot.greet(8)

    refused = slot.invoke(0)

    assert (refused.status, refused.json["errorType"]) == (503, "Okiba.Leaving")


def test_asked_a_second_time_a_slot_with_outcomes_ends_at_once(agents, slot):
    kept(slot, "1")
    hang_up(slot)
    os.kill(slot.pid, signal.SIGTERM)
    assert slot.telemetry()["Okiba-State"] == "idle"
    os.kill(slot.pid, signal.SIGTERM)
    assert leaves_promptly(agents, slot)


def test_a_holder_that_is_gone_is_told_from_one_that_is_there_over_both_kinds_of_socket():
    for ours, theirs in (socket.socketpair(), _tcp_pair()):
        with ours, theirs:
            ours.shutdown(socket.SHUT_RD)
            assert system.is_connected(ours)
            theirs.close()
            wait_until(lambda ours=ours: not system.is_connected(ours))


def _tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        return listener.accept()[0], theirs
