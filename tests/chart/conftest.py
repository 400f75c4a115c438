"""helm has to be there; where it is not, the chart cannot be tried. Some tests want a cluster too."""

from __future__ import annotations

import pytest

from tests.chart.rendering import Document, helm_binary, render
from tests.chart.rights import FUNCTIONS
from tests.cluster.fixtures import cluster

__all__ = ["cluster"]


@pytest.fixture(scope="session", autouse=True)
def helm_is_there() -> None:
    if helm_binary() is None:
        pytest.skip("no helm: set OKIBA_HELM, or start the suite's cluster once, which builds it")


@pytest.fixture(scope="session")
def defaults() -> list[Document]:
    """The chart as it is without any value, but for the functions' namespace."""
    return render({"functions": {"namespace": FUNCTIONS}})
