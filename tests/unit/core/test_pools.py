from __future__ import annotations

from dataclasses import replace

from okiba.core.function import Function, Layer
from okiba.core.pools import RECENT_MS, PoolPolicy, Use, desired_pools, sized_by_use, split_kind

POLICY = PoolPolicy("python3.11", slots=4, layer_slots=1, layers=2)


def function(name: str, runtime: str = "python3.11", layer: str = "", modified_ms: int = 1) -> Function:
    record = Function(name, runtime, "app.handler", "0" * 64, 1, "r1", modified_ms, "AKIA")
    return replace(record, layer=Layer(layer, "x") if layer else None)


def test_before_anything_is_deployed_the_default_runtime_is_kept_warm() -> None:
    assert desired_pools([], {}, set(), POLICY) == {"python3.11": 4}


def test_every_runtime_in_use_has_its_pool() -> None:
    functions = [function("a", "python3.12"), function("b", "python3.12")]
    assert desired_pools(functions, {}, set(), POLICY) == {"python3.11": 4, "python3.12": 4}


def test_a_layer_that_is_not_built_has_no_pool_yet() -> None:
    functions = [function("a", layer="aa"), function("b", layer="bb")]
    assert desired_pools(functions, {}, {"python3.11+bb"}, POLICY) == {"python3.11": 4, "python3.11+bb": 1}


def test_only_the_layers_used_or_deployed_last_have_pools() -> None:
    functions = [function(name, layer=name, modified_ms=at) for name, at in (("old", 1), ("newer", 2), ("newest", 3))]
    ready = {f"python3.11+{name}" for name in ("old", "newer", "newest")}
    assert set(desired_pools(functions, {}, ready, POLICY)) == {"python3.11", "python3.11+newer", "python3.11+newest"}
    used = {"python3.11+old": 9}
    assert set(desired_pools(functions, used, ready, POLICY)) == {"python3.11", "python3.11+newest", "python3.11+old"}


def test_a_kind_names_its_runtime_and_its_layer() -> None:
    assert split_kind("python3.11+abc") == ("python3.11", "abc")
    assert split_kind("python3.11") == ("python3.11", "")


def test_a_pool_grows_with_its_use_and_shrinks_without() -> None:
    now_ms = 10_000_000
    use = Use(120_000)
    for _ in range(10):
        use.note("python3.11/128", now_ms)
    pools = {"python3.11/128": 4, "python3.11/256": 4}
    assert sized_by_use(pools, use, set(), 16, now_ms) == {"python3.11/128": 10, "python3.11/256": 1}
    assert sized_by_use(pools, use, set(), 8, now_ms)["python3.11/128"] == 8
    assert sized_by_use(pools, use, set(), 8, now_ms + 200_000)["python3.11/128"] == 4
    assert sized_by_use(pools, use, set(), 8, now_ms + RECENT_MS + 1)["python3.11/128"] == 1
    assert sized_by_use(pools, use, {"python3.11/256"}, 8, now_ms)["python3.11/256"] == 4


def test_where_slots_are_containers_pools_differ_by_memory_too() -> None:
    policy = PoolPolicy("python3.11/128", slots=4, layer_slots=1, layers=2)
    functions = [replace(function("a"), memory_mb=200), replace(function("b", layer="bb"), memory_mb=512)]
    assert desired_pools(functions, {}, {"python3.11/512+bb"}, policy, by_memory=True) == {
        "python3.11/128": 4,
        "python3.11/256": 4,
        "python3.11/512": 4,
        "python3.11/512+bb": 1,
    }
