"""One stack for all tests here: to start it takes a minute, and images are built before that if they have to be."""

import pytest

from tests.compose import podman
from tests.compose.contained import Contained
from tests.installation import eventually

SERVICES = ("valkey", "gateway", "controller", "jobs")


@pytest.fixture(scope="session")
def stack():
    if reason := podman.why_not():
        pytest.skip(reason)
    with podman.stack() as here:
        for service in SERVICES:
            eventually(lambda service=service: here.healthy(service), 180, every=1)
        yield here


@pytest.fixture(scope="session")
def okiba(stack):
    """As a user on this machine sees it."""
    here = Contained(stack)
    with here.clients:
        yield here
