"""Fixtures for every test that needs a cluster; a conftest imports them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from okiba.core.errors import NotFound
from tests.cluster import cluster as own
from tests.cluster.access import Cluster
from tests.cluster.layout import CACHE, KUBECONFIG, RUN
from tests.cluster.making import programs
from tests.cluster.making.requirements import require

OTHER = "OKIBA_TEST_KUBECONFIG"
"""Names another cluster to test on than the suite's own."""

FOR_TESTS = RUN / "for-tests"
"""Is there when nobody asked for the cluster but tests: `python -m tests.cluster up` makes no such file."""


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster, started once, and ended with the last of the sessions that use it if it was started for one."""
    if named := os.environ.get(OTHER):
        yield Cluster(Path(named).absolute(), own=False)
        return
    _skip_unless_possible()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        _start_if_need_be(request)
        yield Cluster(KUBECONFIG, own=True)
        with contextlib.suppress(BlockingIOError):  # another session uses it still
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _end_if_for_tests()


@pytest.fixture
def own_cluster(cluster: Cluster) -> Cluster:
    """The suite's own cluster, for tests that stop parts of it or rely on what it enforces."""
    if not cluster.own:
        pytest.skip("stops parts of the cluster: for the suite's own only")
    return cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    with cluster.fresh_namespace() as name:
        yield name


def _start_if_need_be(request: pytest.FixtureRequest) -> None:
    """What takes long is said even where pytest keeps output to itself."""
    unbuilt = [program.name for program in programs.ALL if not program.is_built]
    assert not unbuilt, f"{', '.join(unbuilt)} take minutes to build, once: run `python -m tests.cluster build`"
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        if own.up(lambda line: print(line, flush=True)):
            FOR_TESTS.touch()


def _end_if_for_tests() -> None:
    if FOR_TESTS.exists():
        own.down()
        assert own.leftovers() == []


def _skip_unless_possible() -> None:
    try:
        require()
    except NotFound as missing:
        pytest.skip(str(missing))
