"""One Okiba for the whole suite, with short waits: on this machine, as a user starts it, and on a cluster, by helm."""

import pytest

from tests.cluster.fixtures import cluster  # noqa: F401 (a fixture)
from tests.installation import installation
from tests.release import release

FAST = {"retry_delays_ms": "200,400", "slot_wait_ms": "8000"}
IDLE_S = 5


@pytest.fixture(scope="session", params=["machine", "cluster"])
def okiba(request):
    if request.param == "machine":
        settings = {f"OKIBA_{name.upper()}": value for name, value in FAST.items()}
        with installation("--idle-seconds", str(IDLE_S), settings=settings) as here:
            yield here
        return
    settings = {**FAST, "idle_slot_ms": str(IDLE_S * 1000)}
    with release(request.getfixturevalue("cluster"), {"platform": {"settings": settings}}) as here:
        yield here
