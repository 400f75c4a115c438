"""The controller's numbers for Prometheus. Each name has its line in controller/docs/metrics.md (a test holds that).

All are read off the fleet when they are asked for. A controller that waits to lead has no fleet, and shows none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from okiba.adapters.redis_link import RedisLink
from okiba.apps.kube.pod import SlotState


class Keeper(Protocol):
    """What keeps slots, while this controller leads."""

    def pods(self) -> int:
        """How many pods of slots there are."""
        ...

    def slots_by_pool(self) -> Mapping[tuple[str, SlotState], int]:
        """How many slots there are of each kind, by their state."""
        ...

    def trouble(self) -> str:
        """Why slots cannot be made; empty when all is well."""
        ...


class ControllerMetrics(Collector):
    """Gauges of one controller.

    Attributes:
        keeper: Set for as long as this controller leads.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self.keeper: Keeper | None = None
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def page(self) -> bytes:
        """Prometheus's text."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What there is to see just now."""
        keeper = self.keeper
        yield GaugeMetricFamily("okiba_controller_leading", "Whether this controller leads.", int(keeper is not None))
        yield GaugeMetricFamily("okiba_controller_store_up", "Whether Redis answers.", int(self._link.healthy))
        pods = GaugeMetricFamily("okiba_fleet_pods", "Pods of slots.", labels=[])
        trouble = GaugeMetricFamily("okiba_fleet_trouble", "Whether slots cannot be made.", labels=[])
        slots = GaugeMetricFamily("okiba_fleet_slots", "Slots of all gateways.", labels=["kind", "state"])
        if keeper is not None:
            pods.add_metric([], keeper.pods())
            trouble.add_metric([], int(bool(keeper.trouble())))
            for (kind, state), count in sorted(keeper.slots_by_pool().items()):
                slots.add_metric([kind, state.name.lower()], count)
        yield from (pods, trouble, slots)
