"""Valkey or MinIO away: 503 that says when to come again, never a success for what is not stored."""

from dataclasses import replace

import pytest

from tests import servers
from tests.integration.control.conftest import running
from tests.integration.control.lambda_calls import create, refused, until


@pytest.fixture
def own_servers(tmp_path, control_settings):
    (tmp_path / "valkey").mkdir()
    (tmp_path / "minio").mkdir()
    with servers.valkey(tmp_path / "valkey") as valkey, servers.minio(tmp_path / "minio") as minio:
        yield valkey, minio, replace(control_settings, redis_url=valkey.url, s3_endpoint=minio.endpoint)


def test_without_the_object_store_nothing_is_created(own_servers, tmp_path):
    _, minio, settings = own_servers
    with running(settings, tmp_path / "spool") as control:
        servers.end(minio.process)
        with refused("ServiceException", 503):
            create(control.client(), "f")
        assert control.function("f") is None
        status, headers, _ = control.ask("PUT", "/okiba/v1/buckets/photos")
        assert (status, headers["retry-after"]) == (503, "1")


def test_without_redis_nothing_is_created_and_nothing_stays_behind(own_servers, tmp_path):
    valkey, _, settings = own_servers
    with running(settings, tmp_path / "spool") as control:
        servers.end(valkey.process)
        until(lambda: control.ask("GET", "/2015-03-31/functions")[0] == 503)
        with refused("ServiceException", 503):
            create(control.client(), "f")
        assert list(control.spool.iterdir()) == []


def test_what_an_earlier_life_left_in_the_spool_is_swept(own_servers, tmp_path):
    _, _, settings = own_servers
    (tmp_path / "spool" / "old").mkdir(parents=True)
    (tmp_path / "spool" / "old" / "body").write_bytes(b"x")
    with running(settings, tmp_path / "spool") as control:
        assert list(control.spool.iterdir()) == []
