"""Clients that upload through every death of the store, and remember what was acknowledged when."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import BotoCoreError, ClientError

from tests.installation import Installation

CLIENTS = 4
PACE_S = 0.04
TRIES = 100
TRY_S = 0.2


def put_all(here: Installation, keys: Sequence[str], acknowledged: dict[str, float]) -> None:
    """Puts every key into the bucket of the benchmarks' function; in `acknowledged`, the monotonic time of each."""
    local = threading.local()

    def put(key: str) -> None:
        if not hasattr(local, "s3"):
            local.s3 = here.client("s3", connect_timeout=5, read_timeout=10)
        for _ in range(TRIES):
            with contextlib.suppress(BotoCoreError, ClientError):
                local.s3.put_object(Bucket="bench-in", Key=key, Body=b"x")
                acknowledged[key] = time.monotonic()
                time.sleep(PACE_S)
                return
            time.sleep(TRY_S)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(put, keys))
