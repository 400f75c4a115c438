"""What attempts came to, by function: counted on the data path, told to Prometheus when it asks.

Plain integers: the library's own counters take a lock an increment, 6 % of a call's cost in the gateway.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from okiba.core.function import Function
from okiba.core.invocation import Ending, Outcome
from okiba.flow.dispatch import Ran

_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_BOUNDS_US: Final = tuple(round(bound * 1e6) for bound in _BOUNDS_S)
_LABELS: Final = (*(str(float(bound)) for bound in _BOUNDS_S), "+Inf")


@dataclass(slots=True)
class _OfFunction:
    """One function's counts; `within` has an attempt at the first bound that it did not exceed, or at the end."""

    invocations: int = 0
    errors: int = 0
    losses: int = 0
    cold: int = 0
    duration_us: int = 0
    within: list[int] = field(default_factory=lambda: [0] * len(_LABELS))


_COUNTERS: Final = {
    "invocations": ("okiba_invocations", "Attempts that ended, by any end."),
    "errors": ("okiba_errors", "Attempts that ended in a function error."),
    "losses": ("okiba_platform_failures", "Attempts that the platform failed."),
    "cold": ("okiba_cold_starts", "Attempts that a slot was made for."),
}


class Attempts(Collector):
    """The counts of one gateway process since its start."""

    def __init__(self) -> None:
        self._functions: dict[str, _OfFunction] = {}

    def count(self, function: Function, ran: Ran, outcome: Outcome) -> None:
        """One attempt has ended."""
        counts = self._functions.get(function.name)
        if counts is None:
            counts = self._functions[function.name] = _OfFunction()
        counts.invocations += 1
        if outcome.ending is Ending.FUNCTION_ERROR:
            counts.errors += 1
        elif outcome.ending is Ending.PLATFORM_FAILURE:
            counts.losses += 1
        if ran.init_us is not None:
            counts.cold += 1
        counts.duration_us += outcome.duration_us
        counts.within[bisect_left(_BOUNDS_US, outcome.duration_us)] += 1

    def forget(self, name: str) -> None:
        """A deleted function's numbers go, or they would pile up for ever."""
        self._functions.pop(name, None)

    def collect(self) -> Iterator[Metric]:
        """Prometheus' library's: all numbers as they are now."""
        for attribute, (name, text) in _COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=["function"])
            for function, counts in self._functions.items():
                family.add_metric([function], getattr(counts, attribute))
            yield family
        yield self._durations()

    def _durations(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily("okiba_duration_seconds", "Time in the handler.", labels=["function"])
        for function, counts in self._functions.items():
            buckets = list(zip(_LABELS, accumulate(counts.within), strict=True))
            family.add_metric([function], buckets, counts.duration_us / 1e6)
        return family
