"""Who may talk to a slot: grants, epochs, one connection at a time, and outcomes that wait to be collected."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.integration.runtime.conftest import wait_until
from tests.integration.runtime.gateway import Connection

ECHO = """
    def handler(event, context):
        return event
"""

SLOW = """
    import os, time
    def handler(event, context):
        open(event, "w").close()
        while os.path.exists(event):
            time.sleep(0.001)
        return "done"
"""


@pytest.fixture
def slot(slots, code):
    made = slots()
    made.specialize(code(ECHO))
    return made


@pytest.fixture
def slow(slots, code):
    made = slots(private_tmp=False)
    made.specialize(code(SLOW))
    made.greet()
    return made


def test_before_it_has_a_function_a_slot_answers_without_a_grant(slots):
    warm = slots()

    with Connection(warm.address) as connection:
        assert connection.ask("GET", "/okiba/v1/telemetry")["Okiba-State"] == "warm"
        early = connection.ask("POST", "/okiba/v1/connect", {"Okiba-Epoch": "1"})
    assert (early.status, early.json["errorType"]) == (409, "Okiba.NotSpecialized")


@pytest.mark.parametrize("grant", ["", "cd" * 32, "ab" * 31, "é"])
def test_afterwards_a_wrong_grant_is_refused_everywhere(slot, grant):
    for method, path in (
        ("POST", "connect"), ("GET", "telemetry"), ("POST", "shutdown"), ("POST", "specialize"), ("GET", "else"),
    ):  # fmt: skip
        response = slot.control(method, f"/okiba/v1/{path}", {"Okiba-Grant": grant, "Okiba-Epoch": "9"})
        assert (response.status, response.json["errorType"]) == (403, "Okiba.WrongGrant")


def test_a_slot_is_specialized_once(slot, code):
    response = slot.specialize(code(ECHO), environment={})

    assert (response.status, response.json["errorType"]) == (409, "Okiba.AlreadySpecialized")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"epoch": "x"}, "Okiba.BadRequest"),
        ({"code": {"path": "/does/not/exist"}}, "Okiba.BadRequest"),
        ({"code": {"url": "https://example.org"}}, "Okiba.BadRequest"),
    ],
)
def test_an_order_that_is_refused_leaves_the_slot_warm(slots, code, changes, kind):
    warm = slots()

    refused = warm.specialize(code(ECHO), **changes)

    assert (refused.status, refused.json["errorType"]) == (400, kind)
    assert warm.specialize(code(ECHO)).status == 200


def test_what_is_not_a_call_is_answered_with_an_error(slot):
    assert slot.control("GET", "/okiba/v1/shutdown").json["errorType"] == "Okiba.UnknownCall"
    assert slot.control("POST", "/").status == 404
    assert slot.control("GET", "/okiba/v1/telemetry?log=x").json["errorType"] == "Okiba.BadRequest"
    assert slot.control("POST", "/okiba/v1/connect", {"Okiba-Epoch": "x"}).json["errorType"] == "Okiba.BadRequest"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"x" * 20_000,
        b"GET / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
    ],
)
def test_garbage_is_refused_and_the_slot_goes_on(slot, garbage):
    with Connection(slot.address) as connection:
        connection.socket.sendall(garbage)
        assert connection.receive().status == 400
        assert connection.at_end()
    assert slot.telemetry().status == 200


def test_a_stale_epoch_is_refused_and_learns_the_epoch_that_holds(slot):
    slot.greet(epoch=9)

    with slot.connect(epoch=8) as stale:
        response = stale.receive()
        assert stale.at_end()

    assert (response.status, response.json["errorType"], response.json["epoch"]) == (409, "Okiba.StaleEpoch", 9)
    assert slot.invoke("still mine").json == "still mine"


@pytest.mark.parametrize("epoch", [7, 8])
def test_a_new_connection_replaces_the_old_one_and_finds_the_same_worker(slot, epoch):
    worker = slot.greet()["Okiba-Worker"]
    former = slot.data

    assert slot.greet(epoch)["Okiba-Worker"] == worker
    assert former.at_end()
    assert slot.invoke(1).json == 1


def test_a_gateway_that_left_is_followed_by_another(slot):
    slot.greet()
    slot.data.socket.close()

    slot.greet(8)

    assert slot.invoke(1).json == 1


def test_a_busy_worker_greets_the_newcomer_when_it_is_done(slow, tmp_path):
    mark = tmp_path / "runs"
    slow.begin(str(mark), timeout_ms=20_000)
    wait_until(mark.exists)
    former = slow.data

    slow.data = slow.connect(8)
    assert former.at_end()
    assert slow.telemetry()["Okiba-State"] == "busy"
    mark.unlink()
    greeting = slow.data.receive()

    assert greeting["Okiba-Init"] == "ok"
    assert greeting.get("Okiba-Outcomes") is None


def test_the_last_of_many_newcomers_gets_the_busy_worker(slow, tmp_path):
    mark = tmp_path / "runs"
    slow.begin(str(mark), timeout_ms=20_000)
    wait_until(mark.exists)

    newcomers = [slow.connect(8 + number) for number in range(5)]
    wait_until(lambda: all(newcomer.at_end() for newcomer in newcomers[:-1]))
    mark.unlink()

    assert newcomers[-1].receive()["Okiba-Init"] == "ok"


def test_an_outcome_survives_its_gateway_and_is_collected_once(slow, tmp_path):
    mark = tmp_path / "runs"
    request_id = slow.begin(str(mark), timeout_ms=20_000, Okiba_Keep="1")
    wait_until(mark.exists)
    slow.data.socket.close()
    mark.unlink()

    greeting = slow.greet(8)
    outcome = slow.data.ask("GET", f"/okiba/v1/outcomes/{request_id}.1")
    again = slow.data.ask("GET", f"/okiba/v1/outcomes/{request_id}.1")

    assert greeting["Okiba-Outcomes"] == f"{request_id}.1"
    assert (outcome["Okiba-Request-Id"], outcome.json) == (request_id, "done")
    assert (again.status, again.json["errorType"]) == (404, "Okiba.NoOutcome")


def test_a_kept_outcome_is_the_very_answer_that_was_given(slot):
    slot.greet()
    response = slot.invoke("x", Okiba_Keep="3")

    collected = slot.data.ask("GET", f"/okiba/v1/outcomes/{response['Okiba-Request-Id']}.3")

    assert collected == response


def test_settled_outcomes_are_dropped(slot):
    slot.greet()
    ids = [slot.invoke(n, Okiba_Keep="1")["Okiba-Request-Id"] + ".1" for n in range(3)]
    slot.invoke(3, Okiba_Settled=",".join(ids[:2]))

    assert slot.greet()["Okiba-Outcomes"] == ids[2]


def test_at_most_sixteen_outcomes_are_kept(slot):
    slot.greet()
    ids = [slot.invoke(n, Okiba_Keep="1")["Okiba-Request-Id"] + ".1" for n in range(18)]

    assert slot.greet()["Okiba-Outcomes"].split(",") == ids[2:]


def test_what_is_no_invocation_is_answered_and_the_connection_lives(slot):
    slot.greet()

    assert slot.data.ask("GET", "/elsewhere").json["errorType"] == "Okiba.UnknownCall"
    assert slot.invoke(1).json == 1


def test_a_head_that_is_too_long_is_refused_by_the_worker_also_when_it_comes_whole(slot):
    slot.greet()
    slot.data.send("GET", "/okiba/v1/outcomes/x", {"A": "a" * 16 * 1024})
    refused = slot.data.receive()
    assert (refused.status, refused.json["errorMessage"]) == (400, "a head of more than 16384 bytes")
    assert slot.data.at_end()


@pytest.mark.parametrize("header", ["Okiba-Timeout-Us", "Lambda-Runtime-Deadline-Ms", "Lambda-Runtime-Aws-Request-Id"])
def test_an_invocation_without_what_it_needs_ends_the_connection_and_not_the_worker(slot, header):
    slot.greet()
    slot.begin(1, **{header.replace("-", "_"): "not a number"})
    response = slot.data.receive()

    assert (response.status, response.json["errorType"]) == (400, "Okiba.BadRequest")
    assert slot.data.at_end()
    slot.greet(8)
    assert slot.invoke(1).json == 1


def test_an_order_may_have_a_megabyte_and_not_more(slots, code):
    warm = slots()
    folder = code(ECHO)
    fixed = len(json.dumps(warm.order(folder, environment={"A": ""})))

    with Connection(warm.address) as connection:
        head = f"POST /okiba/v1/specialize HTTP/1.1\r\nContent-Length: {1024 * 1024 + 1}\r\n\r\n"
        connection.socket.sendall(head.encode())
        assert connection.receive().status == 400  # before the body was sent
    assert warm.specialize(folder, environment={"A": "x" * (1024 * 1024 - fixed)}).status == 200
    warm.greet()
    assert warm.invoke(1).json == 1


def test_sixty_four_connections_are_the_most(slot):
    held = [Connection(slot.address) for _ in range(64)]
    for connection in held:
        assert connection.ask("GET", "/okiba/v1/telemetry", {"Okiba-Grant": "ab" * 32}).status == 200

    one_more = Connection(slot.address)
    assert one_more.at_end()

    for connection in held:
        connection.socket.close()
    wait_until(lambda: _answers(slot))


def _answers(slot) -> bool:
    try:
        return slot.telemetry().status == 200
    except (ConnectionError, OSError):
        return False


def test_a_slot_told_to_end_takes_no_function_any_more(slots, code):
    warm = slots()
    order = json.dumps(warm.order(code(ECHO))).encode()
    with Connection(warm.address) as ending, Connection(warm.address) as late:
        assert ending.ask("GET", "/okiba/v1/telemetry")["Okiba-State"] == "warm"
        assert late.ask("GET", "/okiba/v1/telemetry")["Okiba-State"] == "warm"
        os.kill(warm.pid, signal.SIGSTOP)  # both requests are there when it looks again
        ending.send("POST", "/okiba/v1/shutdown")
        late.send("POST", "/okiba/v1/specialize", {}, order)
        os.kill(warm.pid, signal.SIGCONT)
        try:
            answer = late.receive()
        except ConnectionError:
            return  # it was gone before it looked at the second one
        if answer.status == 200:  # it looked at the second one first: then the slot is a function's, and no stranger's
            assert ending.receive().json["errorType"] == "Okiba.WrongGrant"
        else:
            assert (answer.status, answer.json["errorType"]) == (410, "Okiba.Exited")
