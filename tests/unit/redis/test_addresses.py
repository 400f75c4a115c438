"""What URLs of Redis say, to the platform and to Celery."""

from __future__ import annotations

import ssl

import pytest

from okiba.adapters.celery_broker import broker_of
from okiba.adapters.redis_address import Address, Kind, Place
from okiba.adapters.redis_client import client_of
from okiba.adapters.redis_cluster import key_of
from okiba.core.errors import InvalidParameter


def test_a_server_has_all_its_parts():
    assert Place.parsed("redis://u:p%40ss@host:1234/2").addresses == (Address("", "host", 1234, 2, ("u", "p@ss")),)
    assert Place.parsed("redis://:pass@host").addresses == (Address("", "host", 6379, 0, ("pass",)),)
    assert Place.parsed("redis://[::1]:7/").addresses == (Address("", "::1", 7),)
    assert Place.parsed("unix:///run/a%20b").addresses == (Address("/run/a b"),)
    assert Place.parsed("unix:///run/a?database=1").addresses == (Address("/run/a", database=1),)
    assert Place.parsed("rediss://host?replicas=2") == Place(Kind.SERVER, (Address("", "host", tls=True),), replicas=2)


def test_sentinels_have_a_login_of_their_own():
    place = Place.parsed("rediss+sentinel://u:p@a,b:2/main/3?sentinel_password=s")

    assert place.addresses == (
        Address("", "a", 26379, login=("s",), tls=True),
        Address("", "b", 2, login=("s",), tls=True),
    )
    assert (place.kind, place.primary, place.database) == (Kind.SENTINEL, "main", 3)
    assert place.server("x", 1) == Address("", "x", 1, 3, ("u", "p"), tls=True)


@pytest.mark.parametrize(
    ("url", "replicas"),
    [
        *(("redis://a", 0), ("redis://a?replicas=1", 1), ("unix:///a?replicas=1", 1)),
        *(("redis+cluster://a", 1), ("redis+sentinel://a/main", 1), ("redis+cluster://a?replicas=0", 0)),
    ],
)
def test_where_another_server_may_take_over_a_replica_must_have_each_change(url, replicas):
    assert Place.parsed(url).replicas == replicas


def test_a_cluster_has_the_same_login_everywhere():
    place = Place.parsed("redis+cluster://:p@a:1,[::1]")

    assert place.addresses == (Address("", "a", 1, login=("p",)), Address("", "::1", login=("p",)))
    assert place.server("x", 9) == Address("", "x", 9, login=("p",))


@pytest.mark.parametrize(
    "url",
    [
        *("", "unix://", "http://x", "redis://host:port", "redis://h/x", "redis://a,b", "redis://", "redis:///1"),
        *("redis+sentinel://a,b", "redis+sentinel://a/main/1/2", "redis+cluster://a/1", "redis+cluster://a,,b"),
        *("redis://h?replica=1", "redis://h?replicas=x", "sentinel://a", "redis+sentinel://a/main?database=1"),
    ],
)
def test_what_is_no_address_of_redis_is_refused(url):
    with pytest.raises(InvalidParameter, match="a Redis URL is"):
        Place.parsed(url)


@pytest.mark.parametrize("url", ["redis://:xy/zzy@host", "redis://:xy:zzy/x@host:1", "redis://:zz?zzy@host/zzy"])
def test_a_refusal_never_tells_a_password(url):
    with pytest.raises(InvalidParameter) as refused:
        Place.parsed(url)
    assert "zz" not in str(refused.value)


# --- Celery's broker --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broker", "redis_url", "url"),
    [
        ("", "unix:///run/x", "redis+socket:///run/x?virtual_host=1"),
        ("", "redis://:p%40@h:1/0?replicas=1", "redis://:p%40@h:1/1"),
        ("", "rediss://u:p@h", "rediss://u:p@h:6379/1"),
        ("redis+socket:///run/b?virtual_host=2", "unix:///run/x", "redis+socket:///run/b?virtual_host=2"),
        ("redis://b/5", "redis+cluster://a", "redis://b:6379/5"),
        ("", "redis+sentinel://u:p@a,b/main", "sentinel://u:p@a:26379/1;sentinel://u:p@b:26379/1"),
    ],
)
def test_the_broker_is_the_second_database_unless_one_is_named(broker, redis_url, url):
    assert broker_of(broker, redis_url).url == url


def test_a_broker_behind_sentinels_is_found_by_the_primary_s_name():
    broker = broker_of("", "rediss+sentinel://p@a/main?sentinel_password=s".replace("//p@", "//:p@"))

    assert broker.options["master_name"] == "main"
    assert broker.options["sentinel_kwargs"]["password"] == "s"
    assert broker.options["sentinel_kwargs"]["ssl"] is True
    assert broker.tls is not None
    assert broker.tls["ssl_cert_reqs"] is ssl.CERT_REQUIRED


@pytest.mark.parametrize(("broker", "redis_url"), [("", "redis+cluster://a,b"), ("redis+cluster://a", "redis://b")])
def test_a_cluster_as_a_broker_is_refused_with_the_setting_that_names_another(broker, redis_url):
    with pytest.raises(InvalidParameter, match="OKIBA_BROKER_URL"):
        broker_of(broker, redis_url)


@pytest.mark.parametrize("url", ["unix:///run/x?database=2", "redis://h/2", "redis+sentinel://:p@a/main/2"])
def test_a_client_s_database_is_the_url_s(url):
    with client_of(url, 1) as client:
        assert client.connection_pool.connection_kwargs["db"] == 2


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "k"), "k"),
        (("EVALSHA", "digest", 1, "k", "argument"), "k"),
        (("EVAL", "source", 0, "argument"), None),
        (("XREAD", "COUNT", 1, "BLOCK", 5, "STREAMS", "k", "0"), "k"),
        (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", ">"), "k"),
        (("XINFO", "STREAM", "k"), "k"),
        (("TIME",), None),
    ],
)
def test_a_command_s_key_is_found_wherever_it_stands(command, key):
    assert key_of(command) == key
