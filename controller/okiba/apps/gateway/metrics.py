"""The gateway's numbers for Prometheus. Each name here has its line in controller/docs/metrics.md (a test holds that).

Children of labelled metrics are made once a function, since a look-up by label costs more than the increment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from okiba.core.function import Function
from okiba.core.invocation import Ending, Outcome
from okiba.flow.dispatch import Ran
from okiba.flow.route import RouteCounts

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)


@dataclass(slots=True)
class _OfFunction:
    invocations: Counter
    errors: Counter
    losses: Counter
    cold: Counter
    duration: Histogram


class Metrics:
    """Counters and gauges of one gateway process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        label = ["function"]
        self._invocations = self._counter("okiba_invocations", "Attempts that ended, by any end.", label)
        self._errors = self._counter("okiba_errors", "Attempts that ended in a function error.", label)
        self._losses = self._counter("okiba_platform_failures", "Attempts that the platform failed.", label)
        self._cold = self._counter("okiba_cold_starts", "Attempts that a slot was made for.", label)
        self.throttles = self._counter("okiba_throttles", "Calls refused for their function's concurrency.", label)
        self._duration = Histogram(
            "okiba_duration_seconds", "Time in the handler.", label, buckets=_SECONDS, registry=self.registry
        )
        self._routed = {
            "accepted": self._counter("okiba_events_accepted", "Bucket events that entered a function's queue.", []),
            "duplicates": self._counter("okiba_events_duplicate", "Bucket events told again and dropped.", []),
            "unbound": self._counter("okiba_events_unbound", "Bucket events that concern no function.", []),
            "quarantined": self._counter("okiba_notifications_quarantined", "Notifications nobody can read.", []),
        }
        self._routed_before = dict.fromkeys(self._routed, 0)
        self.notifications = self._counter("okiba_notifications", "Notifications stored.", ["lane"])
        self.refused = self._counter("okiba_notifications_refused", "Notifications refused.", ["reason"])
        self.queue_depth = self._gauge("okiba_queue_depth", "Asynchronous work waiting or delayed.", label)
        self.queue_age = self._gauge("okiba_queue_oldest_age_seconds", "Age of the oldest of it.", label)
        self.slots = self._gauge("okiba_slots", "Slots of this gateway.", ["function", "state"])
        self._warm_slots = self._gauge("okiba_warm_slots", "Warm slots dealt to this gateway.", ["kind"])
        self.store_up = self._gauge("okiba_store_up", "Whether Redis answers.", [])
        self._functions: dict[str, _OfFunction] = {}
        self._warm_kinds: set[str] = set()

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: list[str]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def ran(self, function: Function, ran: Ran, outcome: Outcome) -> None:
        """Counts one attempt."""
        counts = self._functions.get(function.name) or self._of(function.name)
        counts.invocations.inc()
        if outcome.ending is Ending.FUNCTION_ERROR:
            counts.errors.inc()
        elif outcome.ending is Ending.PLATFORM_FAILURE:
            counts.losses.inc()
        if ran.init_us is not None:
            counts.cold.inc()
        counts.duration.observe(outcome.duration_us / 1e6)

    def routed(self, counts: RouteCounts) -> None:
        """Takes over what the router has counted."""
        for name, counter in self._routed.items():
            now = getattr(counts, name)
            counter.inc(now - self._routed_before[name])
            self._routed_before[name] = now

    def warm(self, slots: Mapping[str, int]) -> None:
        """Takes over how many warm slots there are of each kind; a kind that is not named any more has none."""
        self._warm_kinds.update(slots)
        for kind in self._warm_kinds:
            self._warm_slots.labels(kind).set(slots.get(kind, 0))

    def _of(self, name: str) -> _OfFunction:
        counts = self._functions[name] = _OfFunction(
            self._invocations.labels(name),
            self._errors.labels(name),
            self._losses.labels(name),
            self._cold.labels(name),
            self._duration.labels(name),
        )
        return counts

    def not_here(self, name: str) -> None:
        """Another gateway owns the function: what this one showed of its queue and its slots is over."""
        for metric in (self.queue_depth, self.queue_age, self.slots):
            metric.remove_by_labels({"function": name})

    def forget(self, name: str) -> None:
        """A deleted function's numbers go, or they would pile up for ever."""
        self._functions.pop(name, None)
        for metric in (
            *(self._invocations, self._errors, self._losses, self._cold, self._duration),
            *(self.throttles, self.queue_depth, self.queue_age, self.slots),
        ):
            metric.remove_by_labels({"function": name})
