"""An agent as a container has it: process 1 with nobody to reap for it, told to end by signals, read by its exit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from okiba_runtime import processes
from tests import servers
from tests.integration.fetch.conftest import packed
from tests.integration.runtime.conftest import PROGRAM, alive, wait_until
from tests.integration.runtime.gateway import DEADLINE_S, GRANT, Connection, Slot

SLOW = packed(
    {"app.py": "import time\ndef handler(event, _):\n    time.sleep(event)\n    print('done')\n    return 'done'"}
)


@pytest.fixture
def slot(serving):
    return serving(SLOW)


def test_a_slot_that_is_told_to_leave_finishes_what_runs_and_takes_no_more(agents, slot):
    slot.begin(0.5)
    wait_until(lambda: slot.telemetry()["Okiba-State"] == "busy")

    os.kill(slot.pid, signal.SIGTERM)

    assert slot.data.receive().json == "done"
    assert slot.data.at_end()
    assert agents.process(slot).wait(DEADLINE_S) == 0


def test_an_idle_slot_that_is_told_to_leave_says_so_and_is_gone(agents, slot):
    assert slot.invoke(0).json == "done"
    with Connection(slot.address) as beat:
        beat.send("GET", f"/okiba/v1/telemetry?log={10**17}&wait_ms=5000&seen=idle", {"Okiba-Grant": GRANT})

        os.kill(slot.pid, signal.SIGTERM)

        assert slot.data.at_end()
        ending = json.loads(beat.receive()["Okiba-Exit"])
    assert (ending["reason"], ending["request_id"]) == ("shutdown", None)
    assert agents.process(slot).wait(DEADLINE_S) == 0


def test_a_slot_that_leaves_takes_no_new_holder(agents, slot):
    slot.begin(1)
    wait_until(lambda: slot.telemetry()["Okiba-State"] == "busy")
    os.kill(slot.pid, signal.SIGTERM)

    assert slot.connect(8).at_end()
    assert agents.process(slot).wait(DEADLINE_S) == 0


def test_a_warm_slot_that_is_told_to_leave_is_gone_at_once(agents):
    slot = agents()
    os.kill(slot.pid, signal.SIGTERM)
    assert agents.process(slot).wait(DEADLINE_S) == 0


def test_the_exit_status_shows_that_the_worker_did_not_end_well(agents, slot):
    slot.begin(60, timeout_ms=200)
    assert slot.ending()["reason"] == "timeout"
    slot.shut_down()
    assert agents.process(slot).wait(DEADLINE_S) == 1


def test_what_a_function_prints_is_on_the_container_s_output_too(agents, store):
    slot = agents("--echo")
    slot.specialize("", code=store.part(packed({"app.py": "def handler(*_): print('here I am')"})))
    slot.greet()
    slot.invoke({})
    process = agents.process(slot)
    wait_until(lambda: "here I am" in slot.log())
    slot.shut_down()

    written = process.stdout.read()
    assert b"here I am\n" in written
    assert b"REPORT RequestId: " in written


def test_a_reader_that_does_not_read_costs_the_slot_nothing(agents, store):
    slot = agents("--echo")
    source = "def handler(*_):\n    for _ in range(200): print('x' * 10_000)\n    return 'written'"
    slot.specialize("", code=store.part(packed({"app.py": source})))
    slot.greet()

    assert slot.invoke({}).json == "written"
    assert slot.telemetry(offset=0)["Okiba-State"] == "idle"


@contextlib.contextmanager
def _process_one(runtime_dir: str, *words: str, ready: bool = True):
    """An agent that is process 1 of a namespace, as root in it; its second reader is the `unshare` that made it."""
    port = servers.free_port()
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    program = [sys.executable, "-I", "-S", "-X", "utf8", str(PROGRAM), "--listen", f"tcp:127.0.0.1:{port}"]
    environment = {"PATH": os.environ["PATH"], "OKIBA_RUNTIME_DIR": runtime_dir}
    process = subprocess.Popen([*unshare, *program, *words], stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        assert not ready or process.stdout.readline() == b"ready\n"
        wait_until(lambda: processes.children(process.pid))
        yield process, Slot(f"tcp:127.0.0.1:{port}", processes.children(process.pid)[0], runtime_dir)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


in_namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"], check=False,
                   capture_output=True).returncode != 0,
    reason="namespaces are not allowed here",
)  # fmt: skip


@in_namespaces
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_one_ends_when_it_is_told_to_while_it_imports(tmp_path, number):
    begun = tmp_path / "begun"
    (tmp_path / "heavy.py").write_text(f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(60)")
    words = ("--preload-path", str(tmp_path), "--preload", "heavy")
    with _process_one(str(tmp_path), *words, ready=False) as (process, slot):
        wait_until(begun.exists)
        os.kill(slot.pid, number)
        assert process.wait(DEADLINE_S) == 0


@in_namespaces
def test_process_one_reaps_orphans_and_ends_on_sigterm(store, tmp_path):
    source = """
import os, subprocess
def handler(event, context):
    for _ in range(5):
        if os.fork() == 0:
            subprocess.Popen(["sleep", "0"])
            os._exit(0)
        os.wait()
    return os.getpid()
"""
    with _process_one(str(tmp_path)) as (process, slot):
        slot.specialize("", code=store.part(packed({"app.py": source})))
        slot.greet()
        slot.invoke({})
        wait_until(lambda: len(processes.descendants(slot.pid)) == 2)  # zygote and worker; zombies would count

        os.kill(slot.pid, signal.SIGTERM)

        assert process.wait(DEADLINE_S) == 0
        assert not alive(slot.pid)


@pytest.mark.skipif(os.getuid() != 0 or not os.path.exists("/usr/bin/python3"), reason="needs root and a Python of all")
def test_a_slot_needs_no_privilege_and_one_folder_to_write_to(store):
    folder = tempfile.mkdtemp(prefix="ok", dir="/tmp")
    program = shutil.copytree(PROGRAM.parent, f"{folder}/okiba_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    port = servers.free_port()
    os.mkdir(f"{folder}/var")
    os.chown(f"{folder}/var", 65532, 65532)
    os.chmod(folder, 0o755)
    command = [
        "/usr/bin/python3",
        "-I",
        "-S",
        "-X",
        "utf8",
        f"{program}/__main__.py",
        "--listen",
        f"tcp:127.0.0.1:{port}",
    ]
    environment = {"PATH": "/usr/bin:/bin", "OKIBA_RUNTIME_DIR": f"{folder}/var"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, user=65532, group=65532, extra_groups=[], cwd="/"
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        slot = Slot(f"tcp:127.0.0.1:{port}", process.pid, f"{folder}/var")
        source = "import os\ndef handler(*_): return [os.getuid(), os.access('/', os.W_OK)]"
        layer = store.part(packed({"python/heavy.py": ""}))
        wish = json.dumps({"layers": [layer], "modules": ["heavy"]}).encode()
        assert slot.control("POST", "/okiba/v1/preload", body=wish).json["preloaded"] == ["heavy"]
        slot.specialize("", code=store.part(packed({"app.py": source})), layers=[layer])
        slot.greet()
        assert slot.invoke({}).json == [65532, False]
        slot.shut_down()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)
        shutil.rmtree(folder)
