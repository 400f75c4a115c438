from __future__ import annotations

import pytest

from okiba_runtime.order import BadOrder, parse_order
from tests.unit.runtime.orders import FIELDS, order


def test_an_order_is_parsed():
    parsed = order()

    assert (parsed.name, parsed.handler, parsed.memory_mb, parsed.code) == ("probe", "app.handler", 256, "/code")
    assert parsed.folders == ("/code",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": "7"}, "epoch: expected int, got str"),
        ({"epoch": -1}, "epoch: expected a whole number of at least 0, got -1"),
        ({"epoch": True}, "epoch: expected a whole number"),
        ({"grant": "AB" * 32}, "grant: expected 64 hex digits"),
        ({"grant": "ab"}, "grant: expected 64 hex digits"),
        ({"function": None}, "function: expected dict, got NoneType"),
        (
            {"function": {**FIELDS["function"], "memory_mb": 0}},
            "memory_mb: expected a whole number of at least 1, got 0",
        ),
        ({"environment": {"A=B": ""}}, "environment: 'A=B' must be a name"),
        ({"environment": {"A": 1}}, "environment: 'A' must"),
        ({"environment": {"A": "\0"}}, "environment: 'A' must"),
        ({"code": {"path": "relative"}}, "expected an absolute path of a folder, got 'relative'"),
        ({"layers": ["/a"]}, "path: expected str, got NoneType"),
        ({"packages": [None]}, "expected an absolute path of a folder, got None"),
    ],
)
def test_an_order_that_cannot_be_carried_out_names_the_field(changes, message):
    with pytest.raises(BadOrder, match=message.replace("(", r"\(")):
        order(**changes)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff"])
def test_what_is_no_order_at_all_is_refused(body):
    with pytest.raises(BadOrder):
        parse_order(body)


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "PYTHONHASHSEED", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"]
)
def test_a_variable_that_is_read_at_exec_needs_an_exec(name):
    assert order(environment={name: "1"}).needs_exec
    assert not order(environment={f"MY_{name}": "1"}).needs_exec


def test_a_later_layer_hides_an_earlier_one_as_on_lambda(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "python").mkdir(parents=True)
    layers = [{"path": str(tmp_path / name)} for name in ("one", "two")]

    path = order(layers=layers, packages=["/packages"]).import_path()

    assert path == ["/code", f"{tmp_path}/two/python", f"{tmp_path}/one/python", "/packages"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadOrder, match="no such folder: /does/not/exist"):
        order(code={"path": str(tmp_path)}, packages=["/does/not/exist"]).check_folders()
