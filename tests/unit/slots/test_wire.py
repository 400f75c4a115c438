"""The gateway's side of the slot protocol: bytes in, answers out."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba import wire
from okiba.core.invocation import Invocation

ANSWER = b"HTTP/1.1 200 OK\r\nOkiba-Request-Id: a\r\nContent-Length: 4\r\n\r\nnull"


def test_an_answer_in_one_piece_is_read():
    answer = wire.AnswerReader().feed(ANSWER)
    assert (answer.status, answer.text(b"okiba-request-id"), answer.body) == (200, "a", b"null")


@given(st.lists(st.integers(1, len(ANSWER) - 1), max_size=8))
def test_an_answer_in_any_pieces_is_the_same_answer(cuts):
    reader, edges = wire.AnswerReader(), [0, *sorted(set(cuts)), len(ANSWER)]
    answers = [reader.feed(ANSWER[start:end]) for start, end in pairwise(edges)]
    assert [answer for answer in answers if answer] == answers[-1:]
    assert answers[-1].body == b"null"


def test_one_reader_reads_answer_after_answer():
    reader = wire.AnswerReader()
    assert [reader.feed(ANSWER).body for _ in range(3)] == [b"null"] * 3


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SSH-2.0\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", id="a length beyond the limit"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length 4\r\n\r\n", id="a header without colon"),
        pytest.param(b"HTTP/1.1 2x0 OK\r\nContent-Length: 4\r\n\r\n", id="a status that is no number"),
        pytest.param(ANSWER + b"x", id="bytes behind the answer"),
        pytest.param(b"a" * wire.MAX_HEAD, id="a header block without end"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: ".ljust(wire.MAX_HEAD - 3, b"a") + b"\r\n\r\n",
            id="a header block of one byte too many",
        ),
    ],
)
def test_what_is_no_answer_is_an_error(data):
    with pytest.raises(wire.ProtocolError):
        wire.AnswerReader().feed(data)


@given(st.binary(max_size=300))
def test_garbage_is_an_error_or_an_incomplete_answer_and_nothing_else(data):
    with suppress(wire.ProtocolError):
        assert wire.AnswerReader().feed(data) is None or data.startswith(b"HTTP/1.1 ")


def test_an_invocation_carries_its_payload_byte_for_byte():
    payload = b'{"a" : 1.0e3}'
    request = wire.invocation_request(Invocation("id", "f", payload, "arn", True, b"{}", "Root=1"), 3000, 1_000_000)
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == payload
    assert b"Lambda-Runtime-Deadline-Ms: 1003000" in head
    assert b"Okiba-Timeout-Us: 3000000" in head
    assert b"Okiba-Keep: 1" in head
    assert b"Content-Length: 13" in head


def test_a_line_end_in_a_header_never_reaches_the_worker():
    with pytest.raises(wire.ProtocolError):
        wire.invocation_request(Invocation("id", "f", b"{}", "arn", trace_id="a\r\nX: y"), 1, 1)
