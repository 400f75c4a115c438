"""One Okiba for the whole suite: started as a user starts it, with short waits."""

import pytest

from tests.installation import installation

FAST = {"OKIBA_RETRY_DELAYS_MS": "200,400", "OKIBA_SLOT_WAIT_MS": "8000"}


@pytest.fixture(scope="session")
def okiba():
    with installation("--idle-seconds", "5", settings=FAST) as here:
        yield here
