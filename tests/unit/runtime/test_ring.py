from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba_runtime.ring import Ring


@pytest.fixture
def ring() -> Ring:
    return Ring(capacity=10_000)


def test_output_is_read_from_any_offset(ring):
    ring.append(b"hello ", 1)
    ring.append(b"world", 2)

    assert ring.read(0, 100).body == b"hello world"
    assert ring.read(3, 100).body == b"lo world"
    assert ring.read(8, 2).body == b"rl"


def test_what_fell_out_is_counted(ring):
    ring.append(b"a" * 8_000, 0)
    ring.append(b"b" * 8_000, 1_000)

    excerpt = ring.read(5, 100)

    assert (excerpt.start, excerpt.dropped) == (8_000, 7_995)
    assert excerpt.body == b"b" * 100


def test_a_reader_beyond_the_end_gets_nothing_and_the_true_offset(ring):
    ring.append(b"abc", 0)

    assert ring.read(99, 10) == ring.read(3, 10)
    assert ring.read(99, 10).start == 3


def test_an_excerpt_has_the_time_of_its_first_byte(ring):
    ring.append(b"a" * 5_000, 1_000)
    ring.append(b"b" * 10, 2_000)

    assert ring.read(4_999, 100).time_ms == 1_000
    assert ring.read(5_000, 100).time_ms == 2_000


def test_an_open_line_is_noticed(ring):
    assert not ring.line_is_open
    ring.append(b"no end", 0)
    assert ring.line_is_open
    ring.append(b"\n", 0)
    assert not ring.line_is_open


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=6_000), st.integers(0, 500)), max_size=20))
def test_reading_on_and_on_gives_every_byte_that_was_not_dropped(writes):
    ring, whole, now, seen, offset = Ring(capacity=10_000), b"", 0, bytearray(), 0
    for body, pause in writes:
        now += pause
        ring.append(body, now)
        whole += body
        excerpt = ring.read(offset, 1_000_000)
        assert excerpt.dropped == excerpt.start - offset
        seen += b"?" * excerpt.dropped + excerpt.body
        offset = excerpt.start + len(excerpt.body)
        assert ring.end - ring.start <= 10_000 + 6_000
    assert len(seen) == len(whole)
    assert all(a in (b, ord("?")) for a, b in zip(seen, whole, strict=True))
