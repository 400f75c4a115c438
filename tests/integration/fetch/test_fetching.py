"""A slot that shares no folder with the platform: code and layers come from a real MinIO."""

from __future__ import annotations

import hashlib
import json
import os
import socket

import pytest

from okiba_runtime import processes
from tests.integration.fetch.conftest import StrangeStore, answer, packed
from tests.integration.runtime.conftest import kill, nursery_process, wait_until
from tests.integration.runtime.gateway import Connection

HELLO = "def handler(event, context): return 'hello'"
CODE = packed({"app.py": HELLO})


def _part(url: str, archive: bytes = CODE, **changes):
    return {"url": url, "sha256": hashlib.sha256(archive).hexdigest(), "size": len(archive), **changes}


def test_a_function_runs_from_the_object_store_from_specialising_to_shutting_down(agents, store):
    code = packed({"app.py": "import os\ndef handler(event, context):\n print('here')\n return [event, os.getcwd()]"})
    part = store.part(code)
    slot = agents()

    assert slot.specialize("", code=part).status == 200
    assert slot.greet()["Okiba-Init"] == "ok"

    answered = slot.invoke({"key": 1}, Okiba_Keep="1")
    assert answered.json == [{"key": 1}, f"{slot.folder}/{part['sha256']}"]
    telemetry = slot.telemetry()
    assert (telemetry["Okiba-State"], "here\n" in telemetry.body.decode()) == ("idle", True)
    kept = slot.data.ask("GET", f"/okiba/v1/outcomes/{answered['Okiba-Request-Id']}.1")
    assert kept.body == answered.body
    slot.shut_down()
    assert agents.process(slot).wait(20) == 0


def test_the_store_s_address_is_nowhere_in_the_worker_s_environment(agents, store):
    slot = agents()
    slot.specialize("", code=store.part(packed({"app.py": "import os\ndef handler(*_): return dict(os.environ)"})))
    slot.greet()

    assert "http" not in json.dumps(slot.invoke({}).json)


def test_layers_and_packages_come_along_with_the_code(agents, store):
    source = "import heavy, base\ndef handler(*_): return [heavy.value, base.value, heavy.__file__]"
    layer = store.part(packed({"python/heavy.py": "value = 1"}), id="1e")
    packages = store.part(packed({"python/base.py": "value = 2", "python/heavy.py": "value = 3"}))
    slot = agents()

    order = {"code": store.part(packed({"app.py": source})), "layers": [layer], "packages": [packages]}
    assert slot.specialize("", **order).status == 200
    slot.greet()

    assert slot.invoke({}).json == [1, 2, f"{slot.folder}/{layer['sha256']}/python/heavy.py"]
    assert sorted(os.listdir(slot.folder)) == sorted(part["sha256"] for part in (order["code"], layer, packages))


def test_a_function_that_needs_a_fresh_interpreter_gets_its_code_as_well(agents, store):
    slot = agents()
    environment = {"AWS_REGION": "us-east-1", "PYTHONHASHSEED": "7"}
    slot.specialize("", code=store.part(CODE), environment=environment)
    slot.greet()

    assert slot.invoke({}).json == "hello"


def test_slots_in_namespaces_of_their_own_fetch_too(store):
    with nursery_process("python3", "--runtime-dir", "/tmp/okiba-fetched-in-a-slot") as nursery:
        slot = nursery.slot()
        assert slot.specialize("", code=store.part(CODE)).status == 200
        slot.greet()

        assert slot.invoke({}).json == "hello"
        slot.shut_down()


def test_a_slot_whose_code_could_not_be_had_stays_warm_and_takes_another(agents, store):
    slot = agents()
    absent = store.part(CODE, url=f"{store.server.endpoint}/okiba/code/absent.zip")

    refused = slot.specialize("", code=absent)

    assert (refused.status, refused.json["errorType"]) == (503, "Okiba.FetchFailed")
    assert refused.json["errorMessage"] == "code: the store answered 403 AccessDenied"
    assert slot.telemetry()["Okiba-State"] == "warm"
    assert os.listdir(slot.folder) == []
    assert slot.specialize("", code=store.part(CODE)).status == 200
    slot.greet()
    assert slot.invoke({}).json == "hello"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": len(CODE) + 1}, f"it has {len(CODE)} bytes, expected {len(CODE) + 1}"),
        ({"size": len(CODE) - 1}, f"it has {len(CODE)} bytes, expected {len(CODE) - 1}"),
        ({"sha256": "0" * 64}, "it is damaged: its SHA-256 is"),
    ],
    ids=["shorter than announced", "longer than announced", "another content"],
)
def test_what_is_not_the_package_that_was_deployed_is_the_store_s_fault(agents, store, changes, why):
    slot = agents()

    refused = slot.specialize("", code=store.part(CODE, **changes))

    assert (refused.status, refused.json["errorType"]) == (503, "Okiba.FetchFailed")
    assert why in refused.json["errorMessage"]
    assert os.listdir(slot.folder) == []


@pytest.mark.parametrize(
    ("archive", "why"),
    [(b"no zip", "not a zip file"), (b"", "it is empty"), (packed({"../evil.py": "x"}), "is not a plain path")],
)
def test_a_package_that_is_refused_is_called_bad(agents, store, archive, why):
    slot = agents()

    refused = slot.specialize("", code=store.part(archive))

    assert (refused.status, refused.json["errorType"]) == (400, "Okiba.BadPackage")
    assert why in refused.json["errorMessage"]
    assert os.listdir(slot.folder) == []
    assert not os.path.exists(f"{slot.folder}/../evil.py")


def test_of_two_parts_the_bad_one_is_named(agents, store):
    slot = agents()
    layer = store.part(packed({"/etc/passwd": "x"}), id="1e")

    refused = slot.specialize("", code=store.part(CODE), layers=[layer])

    assert (refused.status, refused.json["errorMessage"][:9]) == (400, "layer 1e:")


@pytest.mark.parametrize(
    "passing",
    [answer(b"<Code>SlowDown</Code>", "503 Slow Down"), answer(CODE[:10], length=len(CODE)), b""],
    ids=["an overloaded store", "half of it", "no answer"],
)
def test_trouble_that_passes_is_waited_out(agents, passing):
    slot = agents()
    with StrangeStore(passing, passing, answer(CODE)) as strange:
        assert slot.specialize("", code=_part(strange.url)).status == 200
        assert len(strange.heads) == 3
    slot.greet()
    assert slot.invoke({}).json == "hello"


def test_trouble_that_does_not_pass_ends_with_the_time_allowed(agents):
    slot = agents()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x"

    refused = slot.specialize("", code=_part(url), init_ms=400)

    assert refused.status == 503
    assert refused.json["errorMessage"].startswith("code: not fetched within 400 ms; the last attempt: ")
    assert "refused" in refused.json["errorMessage"]
    assert slot.telemetry()["Okiba-State"] == "warm"


def test_a_store_that_never_ends_its_answer_ends_with_the_time_allowed(agents):
    slot = agents()
    with StrangeStore(answer(b"x" * 100, length=10**9)) as strange:
        refused = slot.specialize("", code=_part(strange.url, size=0), init_ms=400)

    assert refused.status == 503
    assert os.listdir(slot.folder) == []


@pytest.mark.parametrize("status", ["302 Found", "206 Partial Content", "404 Not Found"])
def test_only_the_object_itself_is_taken_and_no_redirect_followed(agents, status):
    slot = agents()
    with StrangeStore(answer(CODE, status)) as strange:
        refused = slot.specialize("", code=_part(strange.url))
        assert len(strange.heads) == 1

    assert refused.json["errorMessage"].startswith(f"code: the store answered {status[:3]}")
    assert "secret" not in refused.body.decode()


def test_while_a_slot_fetches_it_is_somebody_s(agents):
    slot = agents()
    with StrangeStore(answer(b"", "503 Slow Down")) as strange, Connection(slot.address) as first:
        first.send("POST", "/okiba/v1/specialize", {}, json.dumps(slot.order("", code=_part(strange.url))).encode())
        wait_until(lambda: slot.telemetry()["Okiba-State"] == "fetching")

        second = slot.specialize("", code=_part(strange.url))
        stranger = slot.control("POST", "/okiba/v1/shutdown", {"Okiba-Grant": "0" * 64})

        assert (second.status, second.json["errorType"]) == (409, "Okiba.AlreadySpecialized")
        assert (stranger.status, stranger.json["errorType"]) == (403, "Okiba.WrongGrant")
        assert slot.control("POST", "/okiba/v1/connect", {"Okiba-Epoch": "7"}).json["errorType"] == (
            "Okiba.NotSpecialized"
        )


def test_a_slot_can_be_shut_down_while_it_fetches(agents):
    slot = agents()
    with StrangeStore(answer(b"", "503 Slow Down")) as strange, Connection(slot.address) as first:
        first.send("POST", "/okiba/v1/specialize", {}, json.dumps(slot.order("", code=_part(strange.url))).encode())
        wait_until(lambda: slot.telemetry()["Okiba-State"] == "fetching")

        slot.shut_down()

        assert agents.process(slot).wait(20) == 0
        assert first.receive().status == 503


def test_a_worker_killed_while_it_fetches_is_the_platform_s_failure(agents):
    slot = agents()
    with StrangeStore(answer(b"", "503 Slow Down")) as strange, Connection(slot.address) as first:
        first.send("POST", "/okiba/v1/specialize", {}, json.dumps(slot.order("", code=_part(strange.url))).encode())
        wait_until(lambda: slot.telemetry()["Okiba-State"] == "fetching")
        wait_until(lambda: processes.children(processes.children(slot.pid)[0]))

        kill(processes.children(processes.children(slot.pid)[0])[0])

        refused = first.receive()
        assert (refused.status, refused.json["errorType"]) == (503, "Okiba.FetchFailed")


def test_a_certificate_nobody_vouches_for_is_not_trusted(agents, tls_store):
    slot = agents(environment={"SSL_CERT_FILE": os.devnull})

    refused = slot.specialize("", code=_part(tls_store.url))

    assert (refused.status, refused.json["errorType"]) == (503, "Okiba.FetchFailed")
    assert "certificate is not trusted" in refused.json["errorMessage"]


def test_a_private_authority_is_found_and_passed_on_to_the_function(agents, tls_store):
    slot = agents(environment={"SSL_CERT_FILE": tls_store.authority})

    assert slot.specialize("", code=_part(tls_store.url, tls_store.archive)).status == 200
    slot.greet()

    assert slot.invoke({}).json == [tls_store.authority] * 2
