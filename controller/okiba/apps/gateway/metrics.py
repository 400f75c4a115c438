"""The gateway's numbers for Prometheus. Each name here has its line in controller/docs/metrics.md (a test holds that).

What is counted on the data path is `attempts`'.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from okiba.apps.gateway.attempts import Attempts
from okiba.flow.route import RouteCounts


class Metrics:
    """Counters and gauges of one gateway process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        label = ["function"]
        self.attempts = Attempts()
        self.registry.register(self.attempts)
        self.throttles = self._counter("okiba_throttles", "Calls refused for their function's concurrency.", label)
        self._routed = {
            "accepted": self._counter("okiba_events_accepted", "Bucket events that entered a function's queue.", []),
            "duplicates": self._counter("okiba_events_duplicate", "Bucket events told again and dropped.", []),
            "repaired": self._counter("okiba_events_repaired", "Accepted events that only a sweep had found.", []),
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
        self._warm_kinds: set[str] = set()

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: list[str]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

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

    def not_here(self, name: str) -> None:
        """Another gateway owns the function: what this one showed of its queue and its slots is over."""
        for metric in (self.queue_depth, self.queue_age, self.slots):
            metric.remove_by_labels({"function": name})

    def forget(self, name: str) -> None:
        """A deleted function's numbers go, or they would pile up for ever."""
        self.attempts.forget(name)
        for metric in (self.throttles, self.queue_depth, self.queue_age, self.slots):
            metric.remove_by_labels({"function": name})
