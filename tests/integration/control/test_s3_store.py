import socket

import pytest
import urllib3

from okiba.adapters import s3_store
from okiba.adapters.s3_store import S3Store, code_key
from okiba.core.errors import InvalidParameter, NotFound, RequestTooLarge, StoreUnavailable
from tests import servers


@pytest.fixture
def store(control_settings):
    return S3Store.of(control_settings)


@pytest.fixture
def package(tmp_path):
    path = tmp_path / "package.zip"
    path.write_bytes(b"content" * 100)
    return path


def test_what_is_put_is_there_until_it_is_deleted(store, package, tmp_path):
    key = code_key("a" * 64)
    assert not store.exists(key)
    store.put(key, package)
    assert store.exists(key)
    store.get(key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == package.read_bytes()
    store.delete(key)
    store.delete(key)
    assert not store.exists(key)
    with pytest.raises(NotFound):
        store.get(key, tmp_path / "copy")


def test_content_that_is_there_is_not_sent_again(store, package, tmp_path):
    key = code_key("b" * 64)
    store.put(key, package)
    store.put(key, tmp_path / "a file that does not exist")
    assert store.exists(key)


def test_anybody_can_read_a_location_for_a_while(store, package):
    store.put(code_key("c" * 64), package)
    answer = urllib3.request("GET", store.location(code_key("c" * 64)))
    assert (answer.status, answer.data) == (200, package.read_bytes())


def test_a_location_names_the_address_that_users_reach(control_settings):
    store = S3Store(control_settings.s3_endpoint, "http://photos.example:9000", "key", "secret-key", "us-east-1")
    assert store.location("k").startswith("http://photos.example:9000/okiba/k?")


def test_a_bucket_is_made_once(store):
    assert store.create_bucket("made-once")
    assert not store.create_bucket("made-once")


def test_a_bucket_that_cannot_be_called_so_is_refused(store):
    with pytest.raises(InvalidParameter):
        store.create_bucket("A")


def test_an_object_over_the_limit_is_not_taken(store, package, tmp_path):
    store.put("large", package)
    with pytest.raises(RequestTooLarge):
        store.fetch(s3_store.BUCKET, "large", "", tmp_path / "copy", limit=699)
    store.fetch(s3_store.BUCKET, "large", "", tmp_path / "copy", limit=700)


def test_a_bucket_that_does_not_exist_is_told_from_a_store_that_does_not_answer(store, tmp_path):
    with pytest.raises(NotFound):
        store.fetch("nobodys-bucket", "k", "", tmp_path / "copy", limit=1)


def test_nobody_listening_is_a_store_that_is_unavailable(package):
    store = S3Store(*[f"http://127.0.0.1:{servers.free_port()}"] * 2, "key", "secret-key", "us-east-1")
    with pytest.raises(StoreUnavailable):
        store.put("k", package)


def test_a_store_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(s3_store, "READ_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = S3Store(*[f"http://127.0.0.1:{silent.getsockname()[1]}"] * 2, "key", "secret-key", "us-east-1")
        with pytest.raises(StoreUnavailable):
            store.exists("k")


def test_a_wrong_key_is_the_platforms_trouble_not_the_callers(control_settings):
    store = S3Store(*[control_settings.s3_endpoint] * 2, "wrong-key", "wrong-secret", "us-east-1")
    with pytest.raises(StoreUnavailable):
        store.create_bucket("never-made")
