"""`okiba up` itself, with everything that it supervises."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from okiba.apps.local.processes import start_time
from okiba.apps.local.state import lock_holder
from tests.installation import OKIBA, Installation, children, eventually, installation

COMPONENTS = ("valkey", "minio", "gateway", "controller", "jobs")
LOOPBACK = ("0100007F:", "00000000000000000000000001000000:")
ANY_PORTS = ("--port", "0", "--admin-port", "0", "--s3-port", "0")


@pytest.fixture(scope="module")
def okiba() -> Iterator[Installation]:
    with installation("--warm-slots", "1") as here:
        yield here


def run(state: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OKIBA_STATE_DIR": str(state), **variables}
    return subprocess.run([*OKIBA, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def everything(here: Installation) -> dict[int, int | None]:
    """Every process of an installation with its start time, so that none is mistaken for another later."""
    components = children(here.supervisor)
    slots = [pid for component in components for pid in family(component)]
    return {pid: start_time(pid) for pid in [here.supervisor, *components, *slots, *here.slot_pids()]}


def family(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *family(child))]


def alive(processes: dict[int, int | None]) -> list[int]:
    return [pid for pid, started in processes.items() if started and start_time(pid) == started]


def test_it_is_ready_when_up_returns_and_says_so(okiba: Installation) -> None:
    status = json.loads(okiba.okiba("status", "--json").stdout)
    assert status["running"] is True
    assert "redis" in okiba.okiba("status").stdout


def test_env_can_be_evaluated_by_a_shell_and_points_boto3_here(okiba: Installation) -> None:
    exports = okiba.okiba("env").stdout
    shown = subprocess.run(["sh", "-c", f"{exports}\nenv"], capture_output=True, text=True, check=True).stdout
    document = okiba.document
    assert f"AWS_ENDPOINT_URL=http://127.0.0.1:{document['gateway_port']}\n" in shown
    assert f"AWS_ENDPOINT_URL_S3=http://127.0.0.1:{document['s3_port']}\n" in shown
    assert all(len(shlex.split(line)) == 2 for line in exports.splitlines())
    assert exports.endswith("unset AWS_SESSION_TOKEN\n")
    okiba.client("s3").create_bucket(Bucket="made-with-okibas-own-key")
    assert okiba.client("lambda").list_functions()["Functions"] == []


def test_only_loopback_is_listened_on(okiba: Installation) -> None:
    inodes = {link for pid in everything(okiba) for link in open_sockets(pid)}
    addresses = [line.split()[1] for line in listening() if f"socket:[{line.split()[9]}]" in inodes]
    assert len(addresses) >= 3
    assert all(address.startswith(LOOPBACK) for address in addresses), addresses


def test_a_second_up_on_the_same_folder_is_refused_by_name(okiba: Installation) -> None:
    ran = run(okiba.state, "up")
    assert ran.returncode == 1
    assert f"already runs on {okiba.state} (process {okiba.supervisor})" in ran.stderr


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_killed_with_9_comes_back_and_calls_work(okiba: Installation, component: str) -> None:
    before = okiba.kill(component)
    eventually(lambda: okiba.pid(component) != before)
    s3, lambdas = okiba.client("s3"), okiba.client("lambda")
    eventually(lambda: s3.list_buckets() and lambdas.list_functions(), 30)
    assert f"component='{component}'" in (okiba.state / "logs" / "supervisor.log").read_text()


def test_a_functions_slot_survives_the_restart_of_gateway_and_controller(okiba: Installation) -> None:
    okiba.deploy_inline(
        "staying",
        "import time\ndef handler(event, context):\n    time.sleep(0.2)\n    return context.log_stream_name\n",
    )
    slot = okiba.invoke("staying")[0]
    eventually(lambda: "staying" in slot_owners(okiba))  # the controller may be told after the answer
    for component in ("gateway", "controller"):
        before = okiba.kill(component)
        eventually(lambda before=before, component=component: okiba.pid(component) != before)
    eventually(lambda: okiba.invoke("staying"))
    assert slot in eventually(lambda: streams_at_once(okiba, 4)), words_about_slots(okiba)
    eventually(lambda: json.loads(okiba.okiba("status", "--json", check=False).stdout).get("warm_slots"))


def slot_owners(here: Installation) -> list[str]:
    return [json.loads(path.read_text())["address"]["function"] for path in (here.state / "slots").glob("*.json")]


def streams_at_once(here: Installation, calls: int) -> set[str]:
    """Of as many slots as answer simultaneous calls: a call that came early may have got a new one."""
    with ThreadPoolExecutor(calls) as pool:
        return {stream for stream, *_ in pool.map(lambda _: here.invoke("staying"), range(calls))}


def words_about_slots(here: Installation) -> str:
    logs = [(here.state / "logs" / f"{name}.log").read_text() for name in ("gateway", "controller")]
    return "\n".join(line for log in logs for line in log.splitlines()[-200:] if "slot" in line)


def test_down_stops_everything_and_what_was_stored_is_there_after_the_next_up() -> None:
    with installation("--warm-slots", "1") as here:
        here.client("s3").create_bucket(Bucket="kept")
        processes = everything(here)
        assert here.okiba("down").stdout == "Okiba is stopped.\n"
        assert alive(processes) == []
        assert not Path(here.document["sockets"]).exists()
        assert here.okiba("status", check=False).returncode == 1
        assert "does not run" in here.okiba("down").stdout
        before = here.document
        here.okiba("up", "--detach", "--warm-slots", "0")
        assert here.document["gateway_port"] == before["gateway_port"]
        assert [bucket["Name"] for bucket in here.client("s3").list_buckets()["Buckets"]].count("kept") == 1


def test_kill_9_of_the_supervisor_leaves_no_process_behind() -> None:
    with installation("--warm-slots", "2") as here:
        eventually(lambda: len(here.slot_pids()) == 2)
        processes = everything(here)
        assert len(processes) >= 6 + 1 + 2 * 2, "supervisor, components, nursery, slots of agent and zygote"
        os.kill(here.supervisor, signal.SIGKILL)
        eventually(lambda: not alive(processes), 5)
        here.okiba("up", "--detach")


def test_ctrl_c_on_a_terminal_ends_it_in_order(tmp_path: Path) -> None:
    environment = {**os.environ, "OKIBA_STATE_DIR": str(tmp_path)}
    command = [*OKIBA, "up", *ANY_PORTS, "--warm-slots", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        said = ""
        while "Ctrl-C stops it" not in said:
            said = process.stdout.readline()
            assert said, process.stderr.read()
        processes = everything(Installation(tmp_path, environment))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert alive(processes) == []
    assert lock_holder(tmp_path) is None


@pytest.mark.parametrize("option", ["--port", "--admin-port", "--s3-port"])
def test_a_port_in_use_is_named_with_its_process_and_nothing_starts(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = run(tmp_path, "up", *ANY_PORTS, option, str(port))
    assert ran.returncode == 1
    assert f"port {port} " in ran.stderr
    assert f"(process {os.getpid()})" in ran.stderr
    assert option in ran.stderr
    assert not (tmp_path / "okiba.json").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param('{"format": 99}', "has format 99; this release of Okiba knows format 1 only", id="unknown format"),
        pytest.param("{", "is corrupt", id="corrupt"),
    ],
)
@pytest.mark.parametrize("detach", [["--detach"], []], ids=["detached", "in front"])
def test_a_state_folder_that_cannot_be_read_is_refused_and_left_alone(
    tmp_path: Path, content: str, expected: str, detach: list[str]
) -> None:
    (tmp_path / "okiba.json").write_text(content)
    ran = run(tmp_path, "up", *ANY_PORTS, *detach)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert expected in ran.stderr
    assert (tmp_path / "okiba.json").read_text() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["okiba.json"]


def test_a_missing_minio_is_said_at_once_when_its_variable_is_wrong(tmp_path: Path) -> None:
    ran = run(tmp_path, "up", *ANY_PORTS, OKIBA_MINIO="/nowhere/minio")
    assert ran.returncode == 1
    assert "OKIBA_MINIO must name MinIO's program, got '/nowhere/minio'" in ran.stderr


def test_a_wrong_setting_is_said_before_anything_starts(tmp_path: Path) -> None:
    ran = run(tmp_path, "up", *ANY_PORTS, OKIBA_LOG_BYTES="much")
    assert ran.returncode == 1
    assert "OKIBA_LOG_BYTES must be a whole number, got 'much'" in ran.stderr


def test_wrong_usage_exits_with_2(tmp_path: Path) -> None:
    assert run(tmp_path, "up", "--warm-slots", "many").returncode == 2
    assert run(tmp_path, "fly").returncode == 2


def test_help_is_quick_and_status_without_an_installation_says_how_to_get_one(tmp_path: Path) -> None:
    began = time.monotonic()
    assert "doctor" in run(tmp_path, "--help").stdout
    assert time.monotonic() - began < 2, "0.08 s on a quiet machine: no command is imported"
    ran = run(tmp_path, "status")
    assert ran.returncode == 1
    assert "okiba up" in ran.stdout


def test_doctor_names_every_check_and_what_to_do_about_those_that_failed(tmp_path: Path) -> None:
    ran = run(tmp_path, "doctor", "--json", OKIBA_MINIO="/nowhere/minio")
    findings = {finding["check"]: finding for finding in json.loads(ran.stdout)["findings"]}
    assert {"system", "python", "valkey", "minio", "private /tmp", "memory limits", "open files", "disk"} <= set(
        findings
    )
    assert findings["minio"]["verdict"] == "failed"
    assert findings["minio"]["advice"]
    assert ran.returncode == 1
    assert "minio" in run(tmp_path, "doctor", OKIBA_MINIO="/nowhere/minio").stdout


def listening() -> list[str]:
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    lines = [line for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return [line for line in lines if line.split()[3] == "0A"]


def open_sockets(pid: int) -> list[str]:
    links = []
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            links.append(os.readlink(entry))
        except OSError:
            continue
    return links
