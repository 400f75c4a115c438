"""What travels in a large payload's place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.core.payload import LARGE_BYTES, Reference, is_kept_apart, owner_of_key, payload_bytes, payload_key
from okiba.core.payload import reference_of as referred

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(NAMES, NAMES, NAMES, st.integers(0, 1 << 40))
def test_a_reference_survives_its_journey(tenant, function, request_id, size):
    reference = Reference(payload_key(tenant, function, request_id), size)
    assert referred(reference.encoded()) == reference
    assert payload_bytes(reference.encoded()) == size
    assert owner_of_key(reference.key) == (tenant, function, request_id)


@pytest.mark.parametrize("payload", [b"", b"{}", b"null", b'"\\u0000"', b" 1"])
def test_a_payload_is_no_reference(payload):
    assert referred(payload) is None
    assert payload_bytes(payload) == len(payload)
    assert not is_kept_apart(payload)


def test_the_largest_that_travels_has_256_kilobytes():
    assert not is_kept_apart(b"x" * LARGE_BYTES)
    assert is_kept_apart(b"x" * (LARGE_BYTES + 1))


@pytest.mark.parametrize("key", ["code/00.zip", "payloads/a", "payloads/a/b", "payloads/a/b/c/d"])
def test_a_key_of_something_else_has_no_owner(key):
    assert owner_of_key(key) is None
