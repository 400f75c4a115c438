import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.core.errors import InvalidRequestContent
from okiba.core.strict_json import parsed, parsed_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_every_json_value_survives(value):
    assert parsed(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"{} {}", id="trailing garbage"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"[-Infinity]", id="infinity"),
        pytest.param(b"1e999", id="a number that overflows"),
        pytest.param(b"[" * 100_000, id="100,000 brackets"),
        pytest.param(b'{"a":' * 100_000, id="100,000 objects"),
        pytest.param(b"9" * 5_000, id="5,000 digits"),
        pytest.param(rb'"\ud800"', id="a lone surrogate"),
        pytest.param(rb'{"\udfff": 1}', id="a lone surrogate as a key"),
        pytest.param(b'"\xff"', id="bytes that are not UTF-8"),
        pytest.param("\ufeff{}".encode(), id="a byte order mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b"\x00", id="a NUL"),
    ],
)
def test_what_python_would_trip_over_later_is_refused_at_once(text):
    with pytest.raises(InvalidRequestContent):
        parsed(text)


def test_a_pair_of_surrogates_is_one_character():
    assert parsed(rb'"\ud83d\ude00"') == "\U0001f600"


def test_of_duplicate_keys_the_last_wins():
    assert parsed(b'{"a": 1, "a": 2}') == {"a": 2}


def test_no_body_is_an_empty_object():
    assert parsed_object(b" \n") == {}


@pytest.mark.parametrize("text", [b"[]", b"1", b"null", b"true", b'"x"'])
def test_where_an_object_is_needed_nothing_else_will_do(text):
    with pytest.raises(InvalidRequestContent, match="must be a JSON object"):
        parsed_object(text)
