"""What slots share, and what they do not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest

from tests.integration.runtime.conftest import PROGRAM, nursery_process
from tests.integration.runtime.gateway import Slot

PURE = sysconfig.get_path("purelib")


@pytest.fixture
def private(slots):
    """Slots with a /tmp of their own, where this system allows that."""

    def make() -> Slot:
        slot = slots()
        if "tmp" not in slot.telemetry()["Okiba-Isolation"]:
            pytest.skip("this system allows no namespaces, so slots share /tmp")
        return slot

    return make


def test_twenty_slots_write_the_same_file_and_each_reads_its_own(private, code):
    folder = code("""
        import os, time
        def handler(event, context):
            assert not os.path.exists("/tmp/x") or event["round"]
            with open("/tmp/x", "w") as file:
                file.write(str(event["slot"]))
            time.sleep(0.05)
            return open("/tmp/x").read()
    """)
    made = [private() for _ in range(20)]
    answers: dict[int, list[str]] = {}

    def work(number: int, slot: Slot) -> None:
        slot.specialize(folder)
        slot.greet()
        answers[number] = [slot.invoke({"slot": number, "round": n}).json for n in range(3)]

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(made)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert answers == {number: [str(number)] * 3 for number in range(20)}


def test_a_slot_sees_its_own_processes_only(private, code):
    slot = private()
    slot.specialize(code("""
        import os
        def handler(event, context):
            return [os.getpid(), sorted(int(name) for name in os.listdir("/proc") if name.isdigit())]
    """))  # fmt: skip
    slot.greet()

    pid, seen = slot.invoke({}).json

    assert seen == [1, pid]


def test_code_and_layers_under_tmp_are_seen_all_the_same(private, code, tmp_path):
    (tmp_path / "layer" / "python").mkdir(parents=True)
    (tmp_path / "layer" / "python" / "from_layer.py").write_text("name = 'layer'")
    slot = private()
    slot.specialize(
        code("import from_layer, os\ndef handler(event, context): return [from_layer.name, os.listdir('/tmp')]"),
        layers=[{"path": str(tmp_path / "layer")}],
    )
    slot.greet()

    name, seen = slot.invoke({}).json

    assert name == "layer"
    # The repository may lie under /tmp itself, and is shown then as well.
    assert set(seen) == {path.parts[2] for path in (tmp_path, Path(__file__)) if path.parts[1] == "tmp"}


def test_tmp_is_limited_to_lambda_s_512_megabytes(private, code):
    slot = private()
    slot.specialize(code("""
        import os
        def handler(event, context):
            size = os.statvfs("/tmp")
            return size.f_blocks * size.f_frsize
    """))  # fmt: skip
    slot.greet()

    assert slot.invoke({}).json == 512 * 1024 * 1024


def test_two_slots_draw_different_random_numbers(slots, code):
    folder = code("""
        import random, secrets, uuid, os, tempfile
        def handler(event, context):
            return [random.random(), secrets.token_hex(), str(uuid.uuid4()), os.urandom(8).hex()]
    """)
    drawn = []
    for _ in range(2):
        slot = slots()
        slot.specialize(folder)
        slot.greet()
        drawn.append(slot.invoke({}).json)

    assert all(first != second for first, second in zip(*drawn, strict=True))


def test_two_slots_of_one_preloaded_numpy_draw_different_random_numbers(code):
    folder = code("""
        import sys
        preloaded = "numpy" in sys.modules
        import numpy
        def handler(event, context):
            return [preloaded, numpy.random.rand(), float(numpy.random.default_rng().random()), numpy.__file__]
    """)
    with nursery_process(sys.executable, "--preload-path", PURE, "--preload", "numpy,numpy.random") as nursery:
        drawn = []
        for _ in range(2):
            slot = nursery.slot()
            assert slot.telemetry().get("Okiba-Preload-Dropped") is None
            slot.specialize(folder, packages=[PURE])
            slot.greet()
            drawn.append(slot.invoke({}).json)
            slot.shut_down()

    assert [preloaded for preloaded, *_ in drawn] == [True, True]
    assert drawn[0][1] != drawn[1][1]
    assert drawn[0][2] != drawn[1][2]
    assert drawn[0][3].startswith(PURE)


def test_without_namespaces_slots_work_and_say_so(slots, code):
    slot = slots(private_tmp=False)
    slot.specialize(code("def handler(event, context): return __file__"))
    slot.greet()

    assert slot.telemetry()["Okiba-Isolation"] == "none"
    assert Path(slot.invoke({}).json).name == "app.py"


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests already run as an ordinary user")
def test_an_ordinary_user_s_slots_have_namespaces_of_their_own_too(short_folder):
    nobody = 65_534
    interpreter = next((path for path in _interpreters() if _runs_as(nobody, path)), None)
    if interpreter is None:
        pytest.skip("no Python of 3.10 or later that another user may run")
    program = Path(shutil.copytree(PROGRAM.parent, f"{short_folder}/okiba_runtime")) / "__main__.py"
    (Path(short_folder) / "app.py").write_text(
        "import os\ndef handler(event, context): return [os.getpid(), os.geteuid()]"
    )
    os.chmod(short_folder, 0o777)
    listen = f"unix:{short_folder}/s"
    command = [interpreter, "-I", "-S", "-X", "utf8", str(program), "--listen", listen, "--private-tmp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, user=nobody, group=nobody, extra_groups=[]) as process:
        assert process.stdout.readline() == b"ready\n"
        slot = Slot(listen, process.pid, short_folder)
        isolation = slot.telemetry()["Okiba-Isolation"]
        slot.specialize(short_folder, environment={"PYTHONHASHSEED": "0"})
        slot.greet()
        answer = slot.invoke({}).json
        slot.shut_down()

    if isolation == "none":
        pytest.skip("this system allows ordinary users no namespaces")
    assert isolation == "tmp,pid,ipc"
    assert answer == [2, nobody]


def _interpreters() -> list[str]:
    names = [f"python3.{minor}" for minor in range(20, 9, -1)]
    return [path for folder in os.get_exec_path() for name in names if (path := shutil.which(name, path=folder))]


def _runs_as(user: int, interpreter: str) -> bool:
    try:
        return subprocess.run([interpreter, "-I", "-S", "-c", ""], user=user, group=user, check=False).returncode == 0
    except OSError:
        return False
