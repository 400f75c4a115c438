"""The signer against the SDK's own."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minio.credentials import Credentials
from minio.signer import presign_v4

from okiba.core.presign import Signer

NOW_S = 1_795_363_200.9


def _by_sdk(endpoint, key, secret, region, path, expires_s):
    url = urlsplit(f"{endpoint}/{path}")
    when = datetime.fromtimestamp(int(NOW_S), UTC)
    signed = presign_v4(
        method="GET",
        url=url,
        region=region,
        credentials=Credentials(key, secret),
        date=when,
        expires=expires_s,
    )
    return signed.geturl()


@given(
    st.text("abcXYZ019+/=-_.", min_size=1, max_size=40),
    st.text("abcXYZ019+/=-_.", min_size=1, max_size=40),
    st.integers(1, 604_800),
)
def test_an_address_is_signed_as_the_sdk_signs_it(key, secret, expires_s):
    path = f"okiba/code/{'ab' * 32}.zip"
    signer = Signer("http://store.example:9000", key, secret, "eu-north-1")

    location = signer.location(path, NOW_S, expires_s)

    expected = _by_sdk("http://store.example:9000", key, secret, "eu-north-1", path, expires_s)
    assert location == expected


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("http://store.example", "http://store.example/"),
        ("http://store.example:80", "http://store.example/"),
        ("https://store.example:443", "https://store.example/"),
        ("https://store.example:80", "https://store.example:80/"),
        ("http://[fd00::1]:9000", "http://[fd00::1]:9000/"),
    ],
)
def test_the_host_is_what_a_client_sends_in_its_header(endpoint, host):
    assert Signer(endpoint, "key", "secret", "us-east-1").location("okiba/x", NOW_S, 60).startswith(host + "okiba/x?")
