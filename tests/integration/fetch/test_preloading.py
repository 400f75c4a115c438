"""`preload`: a slot in a container gets a layer from the store and imports its modules, before it is anybody's."""

from __future__ import annotations

import json
import os

import pytest

from okiba_runtime import processes
from tests.integration.fetch.conftest import StrangeStore, answer, packed
from tests.integration.runtime.conftest import nursery_process, wait_until
from tests.integration.runtime.gateway import Connection

LOOK = """
import sys
before = set(sys.modules)
import heavy
def handler(event, context):
    return ["heavy" in before, heavy.__file__, heavy.value]
"""


def _preload(slot, **wish):
    return slot.control("POST", "/okiba/v1/preload", body=json.dumps({"layers": [], "modules": [], **wish}).encode())


@pytest.fixture
def layer(store):
    return store.part(packed({"python/heavy.py": "value = 1", "python/light.py": ""}), id="1e")


@pytest.fixture
def code(store):
    return store.part(packed({"app.py": LOOK}))


def test_a_layer_s_modules_are_there_when_the_function_arrives(agents, layer, code):
    slot = agents()

    preloaded = _preload(slot, layers=[layer], modules=["heavy", "missing"])

    assert (preloaded.status, preloaded.json) == (200, {"preloaded": ["heavy"], "dropped": ""})
    assert slot.specialize("", code=code, layers=[layer]).status == 200
    slot.greet()
    assert slot.invoke({}).json == [True, f"{slot.folder}/{layer['sha256']}/python/heavy.py", 1]


def test_packages_of_the_image_are_preloaded_beside_the_layer(agents, layer, store, tmp_path):
    (tmp_path / "base.py").write_text("value = 2")
    slot = agents("--preload-path", str(tmp_path), "--preload", "base")
    source = "import sys\nfound = 'heavy' in sys.modules, 'base' in sys.modules\ndef handler(*_): return found"

    preloaded = _preload(slot, layers=[layer], packages=[str(tmp_path)], modules=["heavy", "base"])

    assert preloaded.json["preloaded"] == ["heavy", "base"]
    slot.specialize("", code=store.part(packed({"app.py": source})), layers=[layer], packages=[str(tmp_path)])
    slot.greet()
    assert slot.invoke({}).json == [True, True]


def test_a_layer_hides_what_the_image_has_under_the_same_name(agents, layer, code, tmp_path):
    (tmp_path / "heavy.py").write_text("value = 'of the image'")
    slot = agents("--preload-path", str(tmp_path), "--preload", "heavy")

    _preload(slot, layers=[layer], packages=[str(tmp_path)], modules=["heavy"])
    slot.specialize("", code=code, layers=[layer], packages=[str(tmp_path)])
    slot.greet()

    assert slot.invoke({}).json == [True, f"{slot.folder}/{layer['sha256']}/python/heavy.py", 1]


def test_asked_twice_it_is_done_once(agents, layer):
    slot = agents()
    first = _preload(slot, layers=[layer], modules=["heavy"])
    wait_until(lambda: len(processes.children(slot.pid)) == 1)
    zygote = processes.children(slot.pid)

    assert _preload(slot, layers=[layer], modules=["heavy"]).json == first.json
    assert processes.children(slot.pid) == zygote


def test_another_wish_takes_the_place_of_the_first(agents, layer, store, code):
    slot = agents()
    other = store.part(packed({"python/heavy.py": "value = 'other'"}))
    _preload(slot, layers=[layer], modules=["heavy", "light"])

    assert _preload(slot, layers=[other], modules=["heavy"]).json["preloaded"] == ["heavy"]

    slot.specialize("", code=code, layers=[other])
    slot.greet()
    assert slot.invoke({}).json[::2] == [True, "other"]


def test_layers_without_modules_are_fetched_all_the_same(agents, layer):
    slot = agents()
    assert _preload(slot, layers=[layer]).json == {"preloaded": [], "dropped": ""}
    assert os.listdir(slot.folder) == [layer["sha256"]]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "2 threads"),
        ("import os\nos.open('/dev/null', os.O_RDONLY)", "opened by heavy"),
        ("import os\nos._exit(3)", "the process that imported them ended"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "the process that imported them ended"),
        ("import time\ntime.sleep(60)", "not imported within 1500 ms"),
    ],
    ids=["a thread", "a descriptor", "an exit", "a crash", "no end"],
)
def test_what_goes_wrong_in_importing_is_told_and_costs_the_slot_nothing(agents, store, source, why):
    slot = agents()
    bad = store.part(packed({"python/heavy.py": source}))

    preloaded = _preload(slot, layers=[bad], modules=["heavy"], limit_ms=1500)

    assert (preloaded.status, preloaded.json["preloaded"]) == (200, [])
    assert why in preloaded.json["dropped"]
    assert why in slot.telemetry()["Okiba-Preload-Dropped"]
    slot.specialize("", code=store.part(packed({"app.py": "def handler(*_): return 1"})), layers=[bad])
    slot.greet()
    assert slot.invoke({}).json == 1


def test_a_module_that_cannot_be_imported_is_left_to_its_function(agents, store):
    slot = agents()
    bad = store.part(packed({"python/heavy.py": "1 / 0", "python/fine.py": ""}))
    assert _preload(slot, layers=[bad], modules=["heavy", "fine"]).json["preloaded"] == ["fine"]


@pytest.mark.parametrize(
    ("archive", "status", "kind"), [(b"no zip", 400, "Okiba.BadPackage"), (None, 503, "Okiba.FetchFailed")]
)
def test_a_layer_that_cannot_be_had_is_an_error_and_the_slot_stays_warm(agents, store, archive, status, kind):
    slot = agents()
    part = store.part(archive) if archive else {"url": f"{store.server.endpoint}/okiba/x", "sha256": "0" * 64}

    refused = _preload(slot, layers=[part], modules=["heavy"])

    assert (refused.status, refused.json["errorType"]) == (status, kind)
    assert slot.telemetry()["Okiba-State"] == "warm"


def test_whoever_wants_the_slot_does_not_wait_for_preloading(agents, store, code, layer):
    slot = agents()
    body = json.dumps({"layers": [], "modules": ["heavy"]}).encode()
    slow = store.part(packed({"python/heavy.py": "import time\ntime.sleep(60)"}))
    with Connection(slot.address) as first:
        wish = {"layers": [slow], "modules": ["heavy"]}
        first.send("POST", "/okiba/v1/preload", {}, json.dumps(wish).encode())
        wait_until(lambda: len(processes.children(slot.pid)) == 2)
        assert slot.control("POST", "/okiba/v1/preload", body=body).json["errorType"] == "Okiba.Preloading"

        assert slot.specialize("", code=code, layers=[layer]).status == 200

        assert first.receive().json["dropped"].startswith("the slot was specialised")
    slot.greet()
    assert slot.invoke({}).json[::2] == [False, 1]
    assert len(processes.children(slot.pid)) == 1


def test_whoever_wants_the_slot_does_not_wait_for_a_layer_that_is_on_its_way(agents, store, code, layer):
    slot = agents()
    with StrangeStore(answer(b"", "503 Slow Down")) as strange, Connection(slot.address) as first:
        wish = {"layers": [{"url": strange.url, "sha256": "0" * 64}], "modules": ["heavy"]}
        first.send("POST", "/okiba/v1/preload", {}, json.dumps(wish).encode())
        wait_until(lambda: strange.heads)

        assert slot.specialize("", code=code, layers=[layer]).status == 200
        assert first.receive().json["dropped"].startswith("the slot was specialised")
    slot.greet()
    assert slot.invoke({}).json[2] == 1


def test_a_specialised_slot_preloads_nothing(agents, code, layer):
    slot = agents()
    slot.specialize("", code=code, layers=[layer])
    assert _preload(slot, modules=["heavy"]).json["errorType"] == "Okiba.AlreadySpecialized"


def test_a_slot_in_namespaces_of_its_own_says_that_it_preloads_at_birth_only(store, layer):
    with nursery_process("python3", "--runtime-dir", "/tmp/okiba-preloaded-in-a-slot") as nursery:
        slot = nursery.slot()
        assert "at its birth only" in _preload(slot, layers=[layer], modules=["heavy"]).json["dropped"]
        slot.shut_down()
