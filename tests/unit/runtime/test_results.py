from __future__ import annotations

import collections
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba_runtime.faults import Fault
from okiba_runtime.results import MAX_RESULT, to_json


async def _coroutine() -> None: ...


def _cyclic() -> list:
    cyclic: list = []
    cyclic.append(cyclic)
    return cyclic


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, "null"),
        (True, "true"),
        ({"a": [1, 2.5, "x"]}, '{"a": [1, 2.5, "x"]}'),
        ((1, 2), "[1, 2]"),
        (collections.OrderedDict(b=1), '{"b": 1}'),
        (Decimal("1.10"), "1.10"),
        ({"price": Decimal("19.999999999999999999"), "n": Decimal(3)}, '{"price": 19.999999999999999999, "n": 3}'),
        ("\ud800", '"\\ud800"'),
    ],
)
def test_a_result_becomes_json(result, text):
    assert to_json(result).decode() == text


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(float("nan"), id="NaN"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(Decimal("NaN"), id="a decimal that is no number"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param({"a": b"bytes"}, id="bytes inside"),
        pytest.param({1, 2}, id="a set"),
        pytest.param((n for n in range(3)), id="a generator"),
        pytest.param(_cyclic(), id="a cycle"),
        pytest.param({(1, 2): 3}, id="a key that is a tuple"),
        pytest.param(object(), id="an object"),
    ],
)
def test_what_json_cannot_say_is_refused(result):
    with pytest.raises(Fault, match="Unable to marshal response: ") as caught:
        to_json(result)
    assert caught.value.kind == "Runtime.MarshalError"


def test_a_coroutine_that_nobody_awaited_is_refused():
    coroutine = _coroutine()
    with pytest.raises(Fault, match="coroutine is not JSON serializable"):
        to_json(coroutine)
    coroutine.close()


@pytest.mark.parametrize("size", [MAX_RESULT - 1, MAX_RESULT])
def test_a_result_may_be_as_large_as_lambda_s_limit(size):
    assert len(to_json("x" * (size - 2))) == size


def test_a_larger_result_is_refused_in_lambda_s_words():
    with pytest.raises(Fault) as caught:
        to_json("x" * (MAX_RESULT - 1))
    assert (caught.value.kind, str(caught.value)) == (
        "Function.ResponseSizeTooLarge",
        "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    )


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_VALUES)
def test_every_json_value_survives(value):
    assert json.loads(to_json(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_decimal_keeps_its_digits(number):
    assert json.loads(to_json([number]), parse_float=Decimal, parse_int=Decimal) == [number]
