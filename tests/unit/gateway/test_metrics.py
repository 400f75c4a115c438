"""The gateway's numbers, as Prometheus reads them."""

from __future__ import annotations

from okiba.apps.gateway.metrics import Metrics


def warm(metrics: Metrics, kind: str) -> float | None:
    return metrics.registry.get_sample_value("okiba_warm_slots", {"kind": kind})


def test_a_pool_that_ran_empty_is_told_as_empty():
    metrics = Metrics()
    metrics.warm({"python3.11": 4, "python3.12": 1})
    metrics.warm({"python3.12": 2})
    assert (warm(metrics, "python3.11"), warm(metrics, "python3.12")) == (0, 2)


def test_a_pool_that_never_was_is_not_told_of():
    metrics = Metrics()
    metrics.warm({"python3.11": 1})
    assert warm(metrics, "python3.12") is None
