"""What is imported before the fork: what that saves, and when it is given up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.runtime.conftest import nursery_process, wait_until

LOOK = """
    import sys
    before = set(sys.modules)
    import heavy
    def handler(event, context):
        return ["heavy" in before, heavy.__file__, heavy.value]
"""


@pytest.fixture
def layer(tmp_path: Path) -> Callable[[str], Path]:
    def write(source: str, name: str = "layer") -> Path:
        folder = tmp_path / name
        (folder / "python").mkdir(parents=True)
        (folder / "python" / "heavy.py").write_text(source)
        return folder

    return write


def _words(folder: Path, modules: str = "heavy") -> list[str]:
    return ["--preload-path", str(folder / "python"), "--preload", modules]


def test_a_layer_s_modules_are_there_when_the_function_arrives(interpreter, layer, code):
    folder = layer("value = 1")
    with nursery_process(interpreter, *_words(folder, "missing,heavy")) as nursery:
        slot = nursery.slot()
        slot.specialize(code(LOOK), layers=[{"path": str(folder)}])
        slot.greet()

        assert slot.invoke({}).json == [True, f"{folder}/python/heavy.py", 1]
        slot.shut_down()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import threading, time\nvalue = 1\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
         "2 threads after importing heavy"),
        ("import os\nvalue = 1\nos.open('/dev/null', os.O_RDONLY)", "opened by heavy"),
    ],
    ids=["a thread", "a descriptor"],
)  # fmt: skip
def test_a_module_that_must_not_be_forked_ends_preloading(interpreter, layer, code, source, reason):
    folder = layer(source)
    with nursery_process(interpreter, *_words(folder)) as nursery:
        slot = nursery.slot()
        assert reason in slot.telemetry()["Okiba-Preload-Dropped"]
        slot.specialize(code(LOOK), layers=[{"path": str(folder)}])
        slot.greet()

        assert slot.invoke({}).json == [False, f"{folder}/python/heavy.py", 1]
        slot.shut_down()


@pytest.mark.parametrize("source", ["1 / 0", "import sys\nsys.exit(3)", "def (", "raise BaseException"])
def test_a_module_that_cannot_be_preloaded_is_left_to_its_function(interpreter, layer, code, source):
    folder = layer(source)
    with nursery_process(interpreter, *_words(folder)) as nursery:
        slot = nursery.slot()
        slot.specialize(code("def handler(event, context): return 1"), layers=[{"path": str(folder)}])
        slot.greet()

        assert slot.invoke({}).json == 1
        slot.shut_down()


def test_a_function_with_another_layer_does_not_get_this_one_s_modules(interpreter, layer, code):
    preloaded, own = layer("value = 'preloaded'"), layer("value = 'own'", "own")
    with nursery_process(interpreter, *_words(preloaded)) as nursery:
        slot = nursery.slot()
        slot.specialize(code(LOOK), layers=[{"path": str(own)}])
        slot.greet()

        assert slot.invoke({}).json == [False, f"{own}/python/heavy.py", "own"]
        slot.shut_down()


def test_a_slot_tells_what_to_preload_next_time(slots, code, layer):
    folder = layer("import json\nimport lighter\nvalue = 1")
    (folder / "python" / "lighter.py").write_text("")
    slot = slots()
    slot.specialize(code(LOOK), layers=[{"path": str(folder)}])
    slot.greet()

    slot.invoke({})

    wait_until(lambda: slot.telemetry().get("Okiba-Preload") == "lighter,heavy")
