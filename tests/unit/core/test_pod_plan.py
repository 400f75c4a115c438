from __future__ import annotations

import pytest

from okiba.core.function import Function, Layer
from okiba.core.pod_plan import Share, most_lacking, pods_for_callers, share_of, start_share
from okiba.core.slot_end import end_reason, is_out_of_memory
from okiba.core.slot_kind import MEMORY_CLASSES, SlotKind, kinds_for, memory_class, pod_of


def test_a_slot_gets_the_processor_that_lambda_gives_its_memory():
    assert share_of(128, 1000, 10) == Share(1000, 192, 7, 32)
    assert share_of(2048, 0, 100) == Share(1157, 2112, 1157, 2112)
    assert share_of(128, 0, 10).cpu_m == 72
    assert start_share(128, 0, 10).cpu_m == 1000
    assert start_share(10240, 0, 10).cpu_m == share_of(10240, 0, 10).cpu_m == 5788


@pytest.mark.parametrize("memory_mb", MEMORY_CLASSES)
def test_no_pod_requests_more_than_it_may_use(memory_mb):
    for floor in (0, 1000):
        for percent in (1, 10, 99, 100):
            share = start_share(memory_mb, floor, percent)
            assert share.requested_cpu_m <= share.cpu_m
            assert share.requested_memory_mb <= share.memory_mb


@pytest.mark.parametrize(
    ("waiting", "memory_mb", "coming", "made"),
    [
        ([40], 128, [], [8] * 5),
        ([3, 1], 128, [1], [1, 1, 1]),
        ([4], 128, [4], []),
        ([12], 512, [], [8, 8]),
        ([12], 512, [8], [1, 1, 1, 1]),
        ([6], 2048, [], [1] * 6),
        ([1] * 10, 128, [], [1] * 10),
        ([], 128, [8], []),
    ],
)
def test_every_function_that_waits_gets_pods_of_its_own(waiting, memory_mb, coming, made):
    assert pods_for_callers(waiting, memory_mb, coming) == made


def test_the_pool_that_lacks_most_comes_first():
    assert most_lacking({"a": 4, "b": 4, "c": 1}, {"a": 3, "c": 1}) == ["b", "a"]


def test_a_kind_is_read_as_it_was_written():
    for kind in (SlotKind("python3.11"), SlotKind("python3.12", 256), SlotKind("python3.13", 512, "ab" * 32)):
        assert SlotKind.parse(str(kind)) == kind
    assert str(SlotKind("python3.11", 256, "aa")) == "python3.11/256+aa"


def test_a_function_comes_into_the_smallest_class_that_holds_it():
    assert [memory_class(mb) for mb in (128, 129, 512, 3000, 10240)] == [128, 256, 512, 4096, 10240]


def test_a_functions_own_layers_pool_comes_before_its_pythons():
    function = Function("f", "python3.11", "a.b", "0", 1, "r", 1, "k", memory_mb=300, layer=Layer("aa", "x"))
    assert kinds_for(function, by_memory=True) == ("python3.11/512+aa", "python3.11/512")
    assert kinds_for(function, by_memory=False) == ("python3.11+aa", "python3.11")


def test_slots_of_a_pod_know_each_other():
    assert pod_of("okiba-slot-1a.3") == pod_of("okiba-slot-1a.0") == "okiba-slot-1a"
    assert pod_of("0123abcd") == "0123abcd"


@pytest.mark.parametrize(
    ("reason", "exit_code", "wanted", "for_memory"),
    [
        ("OOMKilled", 137, False, True),
        ("Error", 137, False, True),
        ("Error", 137, True, False),
        ("Evicted", 137, False, False),
        ("Error", 1, False, False),
        ("Completed", 0, False, False),
    ],
)
def test_a_kill_that_nobody_asked_for_is_the_kernels_for_memory(reason, exit_code, wanted, for_memory):
    assert is_out_of_memory(end_reason(reason, exit_code, wanted=wanted)) is for_memory
