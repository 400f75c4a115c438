"""Every way a function can end its slot, or its slot be ended: someone always reports, and nothing remains."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from okiba_runtime import processes
from tests.integration.runtime.conftest import alive, kill, nursery_process, wait_until
from tests.integration.runtime.gateway import Slot


@pytest.fixture
def run(slots, code):
    """Specializes a slot with this code and greets it."""

    def start(source: str, *, private_tmp: bool = True, cgroup: str = "", **changes) -> Slot:
        slot = slots(private_tmp=private_tmp, cgroup=cgroup)
        slot.specialize(code(source), **changes)
        slot.greet()
        return slot

    return start


@pytest.fixture(params=[True, False], ids=["in namespaces", "without namespaces"])
def private_tmp(request) -> bool:
    return request.param


def _lost(slot: Slot) -> dict:
    """The slot's ending, after the data connection has been closed."""
    assert slot.data.at_end()
    return slot.ending()


STUBBORN = {
    "in Python": "while True: pass",
    "in C, without letting go of the interpreter": "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "in C, letting go of it": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)",
    "asleep, every signal ignored": """
    import signal, time
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(3600)""",
    "catching everything": """
    while True:
        try:
            while True: pass
        except BaseException:
            pass""",
}


@pytest.mark.parametrize("body", STUBBORN.values(), ids=STUBBORN.keys())
def test_a_handler_that_takes_too_long_is_ended_whatever_it_does(run, body):
    slot = run(f"def handler(event, context):\n    {body}\n")
    began = time.monotonic()

    request_id = slot.begin({}, timeout_ms=300)
    ending = _lost(slot)

    assert 0.3 <= time.monotonic() - began < 15
    assert (ending["reason"], ending["request_id"]) == ("timeout", request_id)
    assert ending["error"] == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 0.30 seconds",
    }
    log = slot.log()
    assert re.search(rf"\d\d\d\d-\d\d-\d\dT\S+Z {request_id} Task timed out after 0.30 seconds\n\nEND RequestId: ", log)
    assert f"REPORT RequestId: {request_id}\tDuration: 300.00 ms" in log
    assert log.endswith("\tStatus: timeout\n")


def test_what_was_printed_before_the_deadline_is_in_the_log(run):
    slot = run("""
        def handler(event, context):
            print("on my way")
            print("and further", end="", flush=True)
            while True: pass
    """)

    slot.begin({}, timeout_ms=200)
    _lost(slot)

    assert re.search(r"on my way\nand further\n\d\d\d\d-", slot.log())


@pytest.mark.parametrize(
    ("last_call", "reason", "message", "exit_code", "number"),
    [
        ("sys.exit()", "exit", "Runtime exited without providing a reason", 0, None),
        ("sys.exit(3)", "exit", "Runtime exited with error: exit status 3", 3, None),
        ("sys.exit('why')", "exit", "Runtime exited with error: exit status 1", 1, None),
        ("os._exit(0)", "exit", "Runtime exited without providing a reason", 0, None),
        ("exit()", "exit", "Runtime exited without providing a reason", 0, None),
        ("os.abort()", "signal", "Runtime exited with error: signal: aborted", None, 6),
        ("ctypes.string_at(0)", "signal", "Runtime exited with error: signal: segmentation fault", None, 11),
        ("os.kill(os.getpid(), 9)", "signal", "Runtime exited with error: signal: killed", None, 9),
        ("os.killpg(0, 15)", "signal", "Runtime exited with error: signal: terminated", None, 15),
    ],
)
def test_a_process_that_ends_inside_an_invocation_is_reported(run, last_call, reason, message, exit_code, number):
    slot = run(f"""
        import ctypes, os, resource, sys
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        def handler(event, context):
            print("last words")
            {last_call}
    """)

    request_id = slot.begin({})
    ending = _lost(slot)

    assert ending.pop("peak_memory_kb") > 1000
    assert ending == {
        "reason": reason,
        "request_id": request_id,
        "last_request_id": request_id,
        "exit_code": exit_code,
        "signal": number,
        "error": {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: {request_id} Error: {message}"},
    }
    log = slot.log()
    assert "last words\n" in log
    assert f"RequestId: {request_id} Error: {message}\nRuntime.ExitError\nEND RequestId: {request_id}\n" in log


def test_a_parent_that_exits_ends_the_slot_and_the_child_it_forked(run, private_tmp):
    slot = run(
        """
        import os, time
        def handler(event, context):
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(3600)
        """,
        private_tmp=private_tmp,
    )

    slot.begin({})

    assert _lost(slot)["reason"] == "exit"
    wait_until(lambda: not processes.descendants(slot.pid))


def test_processes_that_hide_are_ended_with_the_slot(run, private_tmp):
    slot = run(
        """
        import os, time
        def handler(event, context):
            for _ in range(20):
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        os.setsid()
                        time.sleep(3600)
                    os._exit(0)
            while True: pass
        """,
        private_tmp=private_tmp,
    )

    slot.begin({}, timeout_ms=500)

    assert _lost(slot)["reason"] == "timeout"
    wait_until(lambda: not processes.descendants(slot.pid))


def test_a_small_fork_bomb_ends_with_its_slot(run, private_tmp):
    slot = run(
        """
        import os, resource, time
        def handler(event, context):
            ends = time.monotonic() + 20
            for _ in range(6):
                os.fork()
            while time.monotonic() < ends:
                if os.fork() == 0:
                    os._exit(0)
                os.wait()
        """,
        private_tmp=private_tmp,
        memory_mb=4096,
    )

    slot.begin({}, timeout_ms=400)

    assert _lost(slot)["reason"] == "timeout"
    wait_until(lambda: not processes.descendants(slot.pid))


@pytest.mark.parametrize("first", [3, 200])
def test_closing_descriptors_harms_at_most_its_own_slot(run, first):
    slot = run(f"""
        import os
        def handler(event, context):
            os.closerange({first}, {first + 50})
            return "closed"
    """)

    slot.begin({})

    if first == 3:
        assert slot.data.receive().json == "closed"
        assert slot.invoke({}).json == "closed"
    else:
        assert _lost(slot)["error"]["errorType"] == "Runtime.ExitError"


def test_closing_the_standard_descriptors_still_answers(run):
    slot = run("""
        import os
        def handler(event, context):
            os.closerange(0, 3)
            return "closed"
    """)

    assert [slot.invoke({}).json for _ in range(2)] == ["closed"] * 2
    assert slot.log().count("REPORT") == 2


@pytest.mark.parametrize("statement", ["raise ValueError('told')", "print('told', flush=True)"])
def test_who_has_closed_the_standard_descriptors_still_hears_of_errors_at_once(run, statement):
    slot = run(f"""
        import os
        def handler(event, context):
            os.closerange(0, 3)
            {statement}
    """)

    answer = slot.invoke({})

    assert answer["x-amz-function-error"] == "Unhandled"
    assert answer.json["errorType"] in {"ValueError", "OSError"}
    assert answer.json["errorType"] in slot.log()


def test_an_exception_of_any_name_is_told(run):
    slot = run("""
        def handler(event, context):
            raise type("A" * 20_000, (Exception,), {})("told")
    """)

    answer = slot.invoke({})

    assert answer["okiba-error-type"] == "A" * 256
    assert answer.json["errorMessage"] == "told"


def test_using_too_much_memory_is_noticed_by_looking(run, private_tmp):
    slot = run(
        """
        import time
        def handler(event, context):
            kept = []
            while True:
                kept.append(b"x" * 4_000_000)
                time.sleep(0.001)
        """,
        private_tmp=private_tmp,
        memory_mb=64,
    )

    request_id = slot.begin({}, timeout_ms=15_000)
    ending = _lost(slot)

    assert (ending["reason"], ending["request_id"], ending["signal"]) == ("out_of_memory", request_id, 9)
    assert ending["peak_memory_kb"] > 64 * 1024
    assert ending["error"] == {
        "errorType": "Runtime.OutOfMemory",
        "errorMessage": f"RequestId: {request_id} Error: Runtime exited with error: signal: killed",
    }
    assert slot.log().endswith("Status: error\tError Type: Runtime.OutOfMemory\n")


def test_memory_that_child_processes_use_counts(run):
    slot = run("""
        import os, time
        def handler(event, context):
            for _ in range(4):
                if os.fork() == 0:
                    kept = b"x" * 30_000_000
                    time.sleep(3600)
            time.sleep(3600)
    """, memory_mb=64)  # fmt: skip

    slot.begin({}, timeout_ms=15_000)

    assert _lost(slot)["reason"] == "out_of_memory"


def test_memory_that_forked_processes_share_counts_once(run):
    slot = run("""
        import os, time
        kept = b"x" * 60_000_000
        def handler(event, context):
            children = []
            for _ in range(6):
                children.append(os.fork())
                if children[-1] == 0:
                    time.sleep(0.2)
                    os._exit(0)
            for child in children:
                os.waitpid(child, 0)
            return "fine"
    """, memory_mb=128)  # fmt: skip

    assert slot.invoke({}).json == "fine"


@pytest.fixture
def cgroup():
    """A memory cgroup below the one that the tests run in, as a fleet would make for a slot."""
    lines = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    root = Path("/sys/fs/cgroup")
    parent = root / "memory" / lines["memory"].strip("/") if "memory" in lines else root / lines.get("", "").strip("/")
    folder = parent / f"okiba-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    if not any((folder / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
        folder.rmdir()
        pytest.skip("the memory controller is not to be had in cgroups made here")
    yield str(folder)
    wait_until(lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()


EATS = """
    import time
    def handler(event, context):
        kept = b"x" * event
        time.sleep(0.2)
        return len(kept)
"""


@pytest.mark.parametrize("size", [120_000_000, 2_000_000_000], ids=["a little too much", "far too much at once"])
def test_using_too_much_memory_in_a_cgroup_is_noticed(run, cgroup, slots, size):
    slot = run(EATS, cgroup=cgroup, memory_mb=96)
    assert slot.invoke(60_000_000).json == 60_000_000

    request_id = slot.begin(size, timeout_ms=15_000)
    ending = _lost(slot)

    assert (ending["reason"], ending["request_id"]) == ("out_of_memory", request_id)
    slots.close()


def test_files_in_tmp_do_not_count_as_memory(run, cgroup, slots):
    slot = run(
        """
        import time
        def handler(event, context):
            with open("/tmp/large", "wb") as file:
                for _ in range(300):
                    file.write(b"x" * 1_000_000)
            time.sleep(0.1)
            return "fine"
        """,
        cgroup=cgroup,
        memory_mb=96,
    )
    if "tmp" not in slot.telemetry()["Okiba-Isolation"]:
        pytest.skip("this system allows no namespaces, so /tmp is the machine's")

    assert slot.invoke({}, timeout_ms=15_000).json == "fine"
    slots.close()


def test_an_init_phase_has_its_own_limit(run, slots, code):
    slot = slots()
    slot.specialize(code("import time\nprint('loading')\ntime.sleep(3600)"), init_ms=200)
    data = slot.connect()

    assert data.at_end()
    ending = slot.ending()

    assert (ending["reason"], ending["request_id"]) == ("init_timeout", None)
    assert ending["error"] == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "Error: Task timed out after 0.20 seconds",
    }
    assert "loading\n" in slot.log()
    assert "INIT_REPORT Init Duration: 200.00 ms\tPhase: init\tStatus: timeout\n" in slot.log()


@pytest.mark.parametrize(
    ("source", "reason"), [("import sys; sys.exit(2)", "exit"), ("import os; os.abort()", "signal")]
)
def test_a_module_that_ends_the_process_is_reported(slots, code, source, reason):
    slot = slots()
    slot.specialize(code(source))

    ending = slot.ending()

    assert (ending["reason"], ending["request_id"]) == (reason, None)
    assert ending["error"]["errorMessage"].startswith("Error: Runtime exited with error")


def test_using_too_much_memory_in_the_init_phase_is_noticed(slots, code):
    slot = slots()
    slot.specialize(code("kept = []\nwhile True: kept.append(b'x' * 1_000_000)"), memory_mb=64)

    ending = slot.ending()

    assert (ending["reason"], ending["request_id"]) == ("out_of_memory", None)


def test_an_ended_slot_refuses_connections_and_says_why(run):
    slot = run("def handler(event, context): raise SystemExit")
    slot.begin({})
    _lost(slot)

    with slot.connect() as connection:
        response = connection.receive()

    assert (response.status, response.json["errorType"]) == (410, "Okiba.Exited")


def test_a_killed_agent_takes_everything_along(nursery, code, private_tmp):
    slot = nursery.slot(private_tmp=private_tmp)
    slot.specialize(code("""
        import os, time
        def handler(event, context):
            for _ in range(3):
                if os.fork() == 0:
                    os.setsid()
                    time.sleep(3600)
            while True: pass
    """))  # fmt: skip
    slot.greet()
    slot.begin({}, timeout_ms=60_000)
    wait_until(lambda: len(processes.descendants(slot.worker_pid)) == 3)
    pids = processes.descendants(slot.pid)
    assert len(pids) == 5

    kill(slot.pid)

    nursery.await_end(slot.pid)
    wait_until(lambda: not any(map(alive, pids)))


def test_a_cut_lifeline_ends_every_slot(interpreter, code):
    with nursery_process(interpreter) as nursery:
        slots = [nursery.slot() for _ in range(3)]
        for slot in slots[:2]:
            slot.specialize(code("def handler(event, context):\n    while True: pass"))
            slot.greet()
        slots[0].begin({}, timeout_ms=60_000)
        pids = [pid for slot in slots for pid in (slot.pid, *processes.descendants(slot.pid))]

        os.close(nursery.lifeline)
        nursery.lifeline = -1

        wait_until(lambda: not any(map(alive, pids)))
        assert os.listdir(nursery.folder) == []


def test_slots_survive_their_nursery(interpreter, code):
    with nursery_process(interpreter) as nursery:
        slot = nursery.slot()
        slot.specialize(code("def handler(event, context): return 'alive'"))
        slot.greet()
        nursery.socket.close()
        nursery.process.wait(20)

        assert slot.invoke({}).json == "alive"
        pids = [slot.pid, *processes.descendants(slot.pid)]
    wait_until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_is_urged_to_end_ends_everything(nursery, code, number):
    slot = nursery.slot()
    slot.specialize(code("def handler(event, context):\n    while True: pass"))
    slot.greet()
    slot.begin({}, timeout_ms=60_000)
    pids = [slot.pid, *processes.descendants(slot.pid)]

    def urged_to_death() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(slot.pid, number)
        return not any(map(alive, pids))

    wait_until(urged_to_death)


def test_a_killed_zygote_is_reported(run, private_tmp):
    slot = run("def handler(event, context):\n    while True: pass", private_tmp=private_tmp)
    request_id = slot.begin({}, timeout_ms=60_000)
    wait_until(lambda: slot.telemetry()["Okiba-State"] == "busy")

    kill(processes.children(slot.pid)[0])

    ending = _lost(slot)
    assert (ending["reason"], ending["request_id"]) == ("signal", request_id)


def test_a_handler_that_kills_its_parent_ends_its_slot_at_most(run, private_tmp):
    slot = run(
        """
        import os, time
        def handler(event, context):
            os.kill(os.getppid(), 9)
            time.sleep(0.1)
            return "tried"
        """,
        private_tmp=private_tmp,
    )

    slot.begin({})

    if private_tmp:  # the first process of a namespace cannot be killed from inside
        assert slot.data.receive().json == "tried"
    else:
        assert _lost(slot)["reason"] == "signal"


def test_a_shutdown_ends_every_process_and_removes_the_socket(nursery, code):
    slot = nursery.slot()
    slot.specialize(code("def handler(event, context):\n    while True: pass"))
    slot.greet()
    slot.begin({}, timeout_ms=60_000)
    pids = processes.descendants(slot.pid)

    response = slot.control("POST", "/okiba/v1/shutdown")

    assert response.status == 200
    assert not any(map(alive, pids))
    nursery.await_end(slot.pid)
    assert not Path(slot.address.removeprefix("unix:")).exists()


def test_forged_notices_end_no_slot_but_their_own(run):
    slot = run("""
        import os
        def handler(event, context):
            for descriptor in range(200, 210):
                try:
                    os.write(descriptor, b"start x 1 1\\nfailed 1 nonsense\\nend y 5\\ngarbage\\n" * 3)
                except OSError:
                    pass
            return "tried"
    """)

    slot.begin({})

    assert json.loads(slot.telemetry()["Okiba-Memory-Kb"]) >= 0
