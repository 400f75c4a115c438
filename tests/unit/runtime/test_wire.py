from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba_runtime import wire
from tests.unit.runtime.vectors import vectors


def _parsed(raw: bytes):
    head, end, body = raw.partition(wire.END_OF_HEAD)
    assert end
    method, target, headers = wire.parse_head(head)
    return method, target, headers, body, wire.body_length(headers, 1024 * 1024)


@pytest.mark.parametrize("vector", vectors("requests"))
def test_a_request_means_what_its_vector_says(vector):
    method, target, headers, body, length = _parsed(vector["raw"].encode("latin-1"))

    assert method.decode() == vector["method"]
    assert target.decode() == vector["target"]
    assert {name.decode(): value.decode("latin-1") for name, value in headers.items()} == vector["headers"]
    assert body.decode("latin-1") == vector["body"]
    assert length == len(body)


@pytest.mark.parametrize("vector", vectors("refused_requests"))
def test_a_head_that_could_be_read_in_two_ways_is_refused(vector):
    with pytest.raises(wire.Malformed):
        _parsed(vector["raw"].encode("latin-1"))


@pytest.mark.parametrize("vector", vectors("responses"))
def test_a_response_is_written_as_its_vector_says(vector):
    first, *lines = vector["raw"].partition("\r\n\r\n")[0].split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in lines]
    assert headers.pop()[0] == "Content-Length"

    written = wire.response(vector["status"], headers, vector["body"].encode("latin-1"))

    assert first.startswith(f"HTTP/1.1 {vector['status']} ")
    assert written.decode("latin-1") == vector["raw"]


@given(st.binary(max_size=300))
def test_any_bytes_are_either_read_or_refused(raw):
    try:
        wire.parse_head(raw)
    except wire.Malformed:
        return


def test_a_body_may_be_as_large_as_the_limit_and_no_larger():
    assert wire.body_length({b"content-length": b"10"}, 10) == 10
    with pytest.raises(wire.Malformed, match="at most 10 bytes is allowed, got 11"):
        wire.body_length({b"content-length": b"11"}, 10)


def test_a_target_is_split_into_path_and_query():
    assert wire.split_target(b"/okiba/v1/telemetry?log=5&seen=busy:1&x") == (
        "/okiba/v1/telemetry",
        {"log": "5", "seen": "busy:1", "x": ""},
    )


def test_a_header_value_that_is_not_latin_1_is_shown_as_question_marks():
    assert b"Okiba-Preload-Dropped: ?\r\n" in wire.response(200, [("Okiba-Preload-Dropped", "置")])
