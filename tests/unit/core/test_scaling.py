"""How many slots a demand is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.core.scaling import Demand, Limits, desired_slots


@pytest.mark.parametrize(
    ("calling", "backlog", "limits", "expected"),
    [
        pytest.param(0, 0, Limits(100, 16), 0, id="nothing to do needs nothing"),
        pytest.param(1, 0, Limits(100, 16), 1, id="the first call needs the first slot"),
        pytest.param(200, 0, Limits(100, 16), 100, id="callers stop at the limit"),
        pytest.param(0, 5000, Limits(100, 16), 16, id="a backlog stops at its width"),
        pytest.param(0, 5000, Limits(3, 16), 3, id="a backlog stops at the limit too"),
        pytest.param(5, 5, Limits(0, 16), 0, id="a limit of zero is zero"),
    ],
)
def test_demand_becomes_slots(calling, backlog, limits, expected):
    assert desired_slots(Demand(calling, backlog), limits) == expected


def test_a_backlog_adds_its_width_to_what_callers_need():
    assert desired_slots(Demand(3, 5000), Limits(100, 16)) == 19


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 1000), st.integers(1, 100))
def test_no_demand_passes_the_limit_and_more_demand_never_means_fewer(calling, backlog, maximum, width):
    limits = Limits(maximum, width)
    here = desired_slots(Demand(calling, backlog), limits)
    assert 0 <= here <= maximum
    assert desired_slots(Demand(calling + 1, backlog), limits) >= here
