from __future__ import annotations

import json

import pytest

from okiba_runtime.order import BadOrder, order_of, parse_order
from okiba_runtime.parts import MAX_PACKED, located, parts_of
from okiba_runtime.preloading import DEFAULT_LIMIT_MS, wish_of
from tests.unit.runtime.orders import FIELDS

SHA, OTHER = "ab" * 32, "cd" * 32
URL = "http://store.example:9000/okiba/code/x.zip?X-Amz-Signature=0f"
CODE = {"url": URL, "sha256": SHA, "size": 1024}


def test_an_address_becomes_a_folder_named_by_the_digest():
    told = located({**FIELDS, "code": CODE}, "/var/okiba")

    assert told.fields["code"] == {"path": f"/var/okiba/{SHA}"}
    assert [(part.url, part.size, part.folder, part.name, part.kind) for part in told.parts] == [
        (URL, 1024, f"/var/okiba/{SHA}", "code", "code")
    ]


def test_folders_stay_as_they_are():
    told = located({**FIELDS, "layers": [{"path": "/layer"}], "packages": ["/packages"]}, "/var/okiba")

    assert (told.parts, order_of(told.fields).folders) == ((), ("/code", "/layer", "/packages"))


def test_layers_and_packages_may_come_from_the_store_too():
    layer = {"url": URL, "sha256": OTHER, "id": "1e"}
    told = located({**FIELDS, "code": CODE, "layers": [layer], "packages": ["/packages", layer]}, "/r")

    order = order_of(told.fields)
    assert (order.code, order.layers) == (f"/r/{SHA}", (f"/r/{OTHER}",))
    assert order.packages == ("/packages", f"/r/{OTHER}/python")
    assert [(part.name, part.kind) for part in told.parts] == [("code", "code"), ("layer 1e", "layer")]


def test_no_address_reaches_the_worker_but_in_what_it_is_to_fetch():
    told = located({**FIELDS, "code": CODE, "fetch": [{"url": "http://evil.example/"}]}, "/r")

    told_to_worker = json.loads(json.dumps(told.order_with_parts()))
    fetched = told_to_worker.pop("fetch")

    assert "url" not in json.dumps(told_to_worker)
    assert [part["url"] for part in fetched] == [URL]
    assert parts_of(told.order_with_parts()) == list(told.parts)
    assert parse_order(json.dumps(told_to_worker).encode()).code == f"/r/{SHA}"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({**CODE, "sha256": "AB" * 32}, r"code\.sha256: expected 64 hex digits"),
        ({**CODE, "sha256": "../" + "ab" * 32}, r"code\.sha256: expected 64 hex digits"),
        ({**CODE, "sha256": None}, r"code\.sha256"),
        ({**CODE, "size": -1}, r"code\.size: expected a number of bytes"),
        ({**CODE, "size": True}, r"code\.size"),
        ({**CODE, "size": MAX_PACKED + 1}, r"code\.size"),
        ({**CODE, "url": "file:///etc/passwd"}, r"code\.url: expected http"),
        ({**CODE, "url": "gopher://store/"}, r"code\.url"),
        ({**CODE, "url": "http://user:word@store/"}, r"code\.url"),
        ({**CODE, "url": "http:///no/host"}, r"code\.url"),
        ({**CODE, "url": "http://store:port/"}, r"code\.url"),
        ({**CODE, "url": "http://[store/"}, r"code\.url"),
        ({**CODE, "url": "http://store/a b"}, r"code\.url"),
        ({**CODE, "url": "http://store/\r\nX-Header: x"}, r"code\.url"),
        ({**CODE, "url": 5}, r"code\.url"),
        ({**CODE, "id": 5}, r"code\.id"),
    ],
)
def test_a_part_that_cannot_be_fetched_safely_is_refused(code, message):
    with pytest.raises(BadOrder, match=message):
        located({**FIELDS, "code": code}, "/r")


@pytest.mark.parametrize("fields", [None, [], "x", 5])
def test_what_is_no_object_is_refused(fields):
    with pytest.raises(BadOrder, match="expected an object"):
        located(fields, "/r")


def test_a_preload_s_wish_is_read():
    layer = {"url": URL, "sha256": OTHER, "id": "1e"}
    wish = wish_of(located({"layers": [layer], "packages": ["/packages"], "modules": ["numpy"]}, "/r"))

    assert (wish.layers, wish.packages, wish.modules) == ((f"/r/{OTHER}",), ("/packages",), ("numpy",))
    assert (wish.limit_ms, [part.name for part in wish.parts]) == (DEFAULT_LIMIT_MS, ["layer 1e"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modules": "numpy"}, "modules: expected a list"),
        ({"modules": [""]}, "modules: expected a list"),
        ({"modules": ["x" * 13_000]}, "modules: expected at most"),
        ({"limit_ms": 0}, "limit_ms: expected a whole number"),
        ({"limit_ms": True}, "limit_ms: expected a whole number"),
        ({"layers": None}, "layers: expected list"),
    ],
)
def test_a_preload_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(BadOrder, match=message):
        wish_of(located({"layers": [], "modules": [], **changes}, "/r"))
