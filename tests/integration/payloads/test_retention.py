"""The hourly job that throws away what nobody needs."""

from __future__ import annotations

from pathlib import Path

import redis

from okiba.adapters.layer_pip import LayerBuilder
from okiba.apps.jobs import Jobs
from okiba.core.errors import StoreUnavailable
from tests.servers import ValkeyServer

NOW = 1_800_000_000_000


def test_a_sweep_that_fails_keeps_no_other_from_its_work(valkey: ValkeyServer, tmp_path: Path):
    swept: list[int] = []

    def away(_now_ms: int) -> None:
        raise StoreUnavailable("the object store did not answer")

    def full(_now_ms: int) -> None:
        raise OSError("no space left on device")

    with redis.Redis(unix_socket_path=valkey.socket) as client:
        builder = LayerBuilder(tmp_path, lambda _runtime: None, {})
        Jobs(client, builder, "default", lambda: NOW, (away, full, swept.append)).retain()
    assert swept == [NOW]
