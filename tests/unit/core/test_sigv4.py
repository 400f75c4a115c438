"""The verifier against botocore's own signer, and what it must not let pass."""

import hashlib
import time
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from okiba.core.errors import AccessDenied
from okiba.core.sigv4 import MAX_SKEW_S, read_claim, verify

SECRET = "s3cr3t"


def signed(method="POST", url="http://127.0.0.1:4566/2015-03-31/functions/f/invocations", body=b"{}", headers=None):
    request = AWSRequest(
        method=method, url=url, data=body, headers={"X-Amz-Invocation-Type": "Event", **(headers or {})}
    )
    SigV4Auth(Credentials("AKIA", SECRET), "lambda", "us-east-1").add_auth(request)
    sent = {name.lower(): value for name, value in request.headers.items()}
    sent.setdefault("host", urlsplit(url).netloc)
    return sent


def check(
    headers, method="POST", path="/2015-03-31/functions/f/invocations", query="", body=b"{}", secret=SECRET, now=None
):
    claim = read_claim(headers, query, time.time() if now is None else now, "us-east-1", "lambda")
    verify(claim, secret, method, path, query, headers, hashlib.sha256(body).hexdigest())
    return claim


def test_what_botocore_signs_is_accepted_and_names_its_key():
    assert check(signed()).access_key == "AKIA"


@given(
    st.text("abcXYZ019-_.~$:@ %+&=é", min_size=1, max_size=20),
    st.dictionaries(st.text("abAB-_", min_size=1, max_size=5), st.text("xyz 1+/=&", max_size=5), max_size=4),
)
def test_any_path_and_query_that_botocore_signs_is_accepted(name, query):
    from urllib.parse import quote, urlencode

    encoded_name = quote(name, safe="")
    path = f"/2015-03-31/functions/{encoded_name}/invocations"
    encoded = urlencode(query, quote_via=quote, safe="-_.~")
    url = f"http://127.0.0.1:4566{path}" + (f"?{encoded}" if encoded else "")
    check(signed(url=url), path=path, query=encoded)


@pytest.mark.parametrize("path", ["/", "/a/../b", "/a//b/./c/", "/..", "/a/."])
def test_paths_with_dots_and_empty_parts_are_read_as_botocore_signs_them(path):
    check(signed(url=f"http://127.0.0.1:4566{path}"), path=path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"body": b"{ }"}, id="another body"),
        pytest.param({"path": "/2015-03-31/functions/g/invocations"}, id="another function"),
        pytest.param({"method": "PUT"}, id="another method"),
        pytest.param({"query": "Qualifier=1"}, id="a query added"),
        pytest.param({"secret": "other"}, id="another secret"),
    ],
)
def test_a_changed_request_is_refused(change):
    with pytest.raises(AccessDenied):
        check(signed(), **change)


def test_a_changed_signed_header_is_refused():
    headers = signed() | {"x-amz-invocation-type": "RequestResponse"}
    with pytest.raises(AccessDenied):
        check(headers)


def test_an_amz_header_that_is_not_signed_is_refused():
    with pytest.raises(AccessDenied, match="x-amz-log-type"):
        check(signed() | {"x-amz-log-type": "Tail"})


@pytest.mark.parametrize("skew", [MAX_SKEW_S + 5, -MAX_SKEW_S - 5])
def test_a_signature_for_another_time_is_refused(skew):
    with pytest.raises(AccessDenied, match="15 minutes"):
        check(signed(), now=time.time() + skew)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer x",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=A/20260101/r/s/aws4_request, SignedHeaders=host, Signature=0",
    ],
)
def test_anything_but_a_signature_is_refused(authorization):
    with pytest.raises(AccessDenied):
        read_claim({"authorization": authorization, "x-amz-date": "20260101T000000Z"}, "", 0, "us-east-1", "lambda")


def test_credentials_in_the_query_are_refused_even_beside_a_good_header():
    with pytest.raises(AccessDenied, match="query string"):
        check(signed(), query="X-Amz-Signature=00")


def test_a_content_hash_that_is_not_the_bodys_is_refused():
    headers = signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(b"{}").hexdigest()})
    check(headers)
    with pytest.raises(AccessDenied):
        check(signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}))
