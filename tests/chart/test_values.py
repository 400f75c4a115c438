"""Every value that values.yaml documents is set by some case, and makes a difference there."""

from __future__ import annotations

import pytest
import yaml

from tests.chart.cases import CASES
from tests.chart.rendering import (
    CHART,
    HelmRefused,
    Leaf,
    Values,
    at,
    documented_leaves,
    reproducible,
    without,
)

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


def _cases_that_set(leaf: Leaf) -> list[str]:
    return [name for name, values in CASES.items() if at(values, leaf) not in (None, at(DEFAULTS, leaf))]


def test_every_documented_value_is_set_to_something_else_by_a_case() -> None:
    unset = [".".join(leaf) for leaf in documented_leaves() if not _cases_that_set(leaf)]
    assert unset == []


@pytest.mark.parametrize("leaf", documented_leaves(), ids=".".join)
def test_a_value_makes_a_difference(leaf: Leaf) -> None:
    assert any(_matters(leaf, CASES[name]) for name in _cases_that_set(leaf)), "no template uses it"


def _matters(leaf: Leaf, values: Values) -> bool:
    try:
        return reproducible(values) != reproducible(without(values, leaf))
    except HelmRefused:  # others of the case need it
        return True


def test_every_value_has_a_line_of_explanation_or_a_name_that_says_it() -> None:
    explained = [line for line in (CHART / "values.yaml").read_text().splitlines() if line.lstrip().startswith("#")]
    assert len(explained) > len(documented_leaves()) / 2
