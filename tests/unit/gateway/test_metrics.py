"""The gateway's numbers, as Prometheus reads them."""

from __future__ import annotations

from okiba.apps.gateway.metrics import Metrics
from okiba.core.function import Function
from okiba.core.invocation import Ending, Outcome
from okiba.flow.dispatch import Ran

FUNCTION = Function("thumbnails", "python3.11", "m.h", "0" * 64, 3, "r", 0, "k")


def counted(*outcomes: Outcome) -> Metrics:
    metrics = Metrics()
    for each in outcomes:
        ran = Ran("id", "sync", 0, 0, 0, each.duration_us, each.init_us, each.ending, "slot")
        metrics.attempts.count(FUNCTION, ran, each)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"function": "thumbnails", **labels})


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


def test_attempts_are_counted_by_how_they_ended():
    succeeded = Outcome(Ending.SUCCEEDED, b"", duration_us=1_500, init_us=900)
    failed, lost = Outcome(Ending.FUNCTION_ERROR, b""), Outcome(Ending.PLATFORM_FAILURE, b"")
    metrics = counted(succeeded, failed, failed, lost)
    names = ("invocations", "errors", "platform_failures", "cold_starts")
    assert [value(metrics, f"okiba_{name}_total") for name in names] == [4, 2, 1, 1]


def test_durations_fall_into_the_first_bucket_that_holds_them():
    each_us = (0, 1_000, 1_001, 2_000_000_000)
    metrics = counted(*(Outcome(Ending.SUCCEEDED, b"", duration_us=us) for us in each_us))
    seen = {le: value(metrics, "okiba_duration_seconds_bucket", le=le) for le in ("0.001", "0.0025", "900.0", "+Inf")}
    assert seen == {"0.001": 2, "0.0025": 3, "900.0": 3, "+Inf": 4}
    assert value(metrics, "okiba_duration_seconds_sum") == 2000.002001
    assert value(metrics, "okiba_duration_seconds_count") == 4


def test_a_deleted_functions_numbers_go():
    metrics = counted(Outcome(Ending.SUCCEEDED, b""))
    metrics.forget("thumbnails")
    assert value(metrics, "okiba_invocations_total") is None
