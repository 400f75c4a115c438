"""MinIO restarted ten times under PUT load: every acknowledged object is handled within a minute of the last."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from tests.benchmarks.events import check, deploy_effect
from tests.chaos.driver import put_all
from tests.installation import eventually, installation

PUTS = 1_000
RESTARTS = 10
REPAIRED_S = 60

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def okiba():
    with installation(settings={"OKIBA_RETRY_DELAYS_MS": "3000,10000"}) as here:
        deploy_effect(here)
        yield here


def letters(here):
    return json.loads(here.okiba("dlq", "list", "effect", "--json").stdout)


def test_what_minio_forgets_around_ten_restarts_is_found(okiba):
    keys = [f"restarts/{number:05d}" for number in range(PUTS)]
    acknowledged: dict[str, float] = {}
    putting = threading.Thread(target=put_all, args=(okiba, keys, acknowledged))
    putting.start()
    for number in range(RESTARTS):
        target = (number + 1) * PUTS // (RESTARTS + 1)
        eventually(lambda target=target: len(acknowledged) >= target, 120)
        os.kill(okiba.pid("minio"), signal.SIGKILL if number % 2 else signal.SIGTERM)
    putting.join()
    ended_s = time.monotonic()
    assert len(acknowledged) == PUTS

    def lost():
        return check(okiba, list(acknowledged))["lost"]

    def accepted():
        return okiba.metric("okiba_events_accepted_total")

    # An event whose three attempts all met a dead MinIO is a dead letter by then: the function's error, and not lost.
    def ended():
        return accepted() == PUTS and okiba.metric("okiba_queue_depth") == 0 and len(lost()) <= len(letters(okiba))

    eventually(ended, REPAIRED_S, 1.0)
    took_s = time.monotonic() - ended_s
    dead = len(letters(okiba))
    if dead:
        okiba.okiba("dlq", "redrive", "effect", "--all")
    eventually(lambda: not lost(), REPAIRED_S, 1.0)
    repaired = okiba.metric("okiba_events_repaired_total")
    announced = accepted() - repaired
    told = check(okiba, list(acknowledged))
    print(f"{RESTARTS} restarts, {PUTS} objects: MinIO announced {announced:.0f}, sweeps found {repaired:.0f};")
    print(f"all ended {took_s:.0f} s after the last; {dead} redriven; run again: {len(told['duplicated'])}")
    assert told["ghosts"] == []
