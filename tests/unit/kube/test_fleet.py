from __future__ import annotations

from dataclasses import replace

import pytest

from okiba.apps.kube import fleet as fleet_module
from okiba.core.errors import AccessDenied, ClusterUnavailable
from okiba.core.slot_end import is_out_of_memory
from tests.unit.kube.conftest import becomes_true

KIND = "python3.11/128"


async def test_the_default_pool_is_filled_with_pods_of_one_slot(site):
    async with site.controller(), site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        assert site.sizes() == [1, 1]


async def test_a_taken_slot_is_recorded_on_its_pod_and_replaced_in_the_pool(site):
    async with site.controller(), site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        slot = link.claim([KIND], "thumbnails", "r1")
        link.took(replace(slot, function="thumbnails", revision="r1"), 1)
        pod = slot.id.rpartition(".")[0]
        await becomes_true(
            lambda: site.kube.documents[pod]["metadata"]["labels"].get("okiba.dev/function") == "thumbnails",
            "the pod is labelled",
        )
        await becomes_true(lambda: link.warm() == {KIND: 2}, "the pool is full again")
        assert site.sizes() == [1, 1, 1]


async def test_a_retired_slot_takes_its_pod_with_it_and_the_gateway_is_told(site):
    async with site.controller(), site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        slot = link.claim([KIND], "f", "r1")
        link.took(replace(slot, function="f", revision="r1"), 1)
        link.retire(slot.id, 1)
        await becomes_true(lambda: slot.id in dict(listener.gone), "it is gone")
        pod = slot.id.rpartition(".")[0]
        assert site.kube.deleted == [(pod, f"uid-{pod}")]


async def test_a_function_that_grows_gets_pods_of_eight_slots(site):
    async with site.controller(warm_slots=0), site.gateway() as (link, _):
        link.want(KIND, 12, [12])
        await becomes_true(lambda: link.warm() == {KIND: 16}, "slots for twelve callers")
        assert site.sizes() == [8, 8]


async def test_callers_of_different_functions_get_pods_of_their_own(site):
    async with site.controller(warm_slots=0), site.gateway() as (link, _):
        link.want(KIND, 6, [1, 1, 1, 1, 1, 1])
        await becomes_true(lambda: link.warm() == {KIND: 6}, "six slots")
        assert site.sizes() == [1] * 6


async def test_no_more_slots_are_made_than_there_is_room_for(site):
    async with site.controller(warm_slots=0, max_slots=10), site.gateway() as (link, _):
        link.want(KIND, 40, [40])
        await becomes_true(lambda: link.warm() == {KIND: 10}, "ten slots")
        assert site.sizes() == [2, 8]


async def test_an_empty_list_deletes_nothing_and_takes_no_slot_from_anyone(site):
    async with site.controller(), site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        before = site.kube.lists
        site.kube.lists_nothing = True
        site.kube.forgets = True
        await becomes_true(lambda: site.kube.lists > before, "pods are listed anew")
        site.kube.lists_nothing = False
        slot = link.claim([KIND], "f", "r1")
        link.took(replace(slot, function="f", revision="r1"), 1)
        await becomes_true(lambda: link.warm() == {KIND: 2}, "the pool is full again")
        assert site.kube.deleted == []
        assert listener.gone == []


async def test_a_pod_that_was_deleted_unseen_is_told_once_the_cluster_says_so_by_name(site):
    async with site.controller(), site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        name = next(iter(site.kube.documents))
        del site.kube.documents[name]
        site.kube.forgets = True
        await becomes_true(lambda: f"{name}.0" in dict(listener.gone), "its slot is gone")
        await becomes_true(lambda: link.warm() == {KIND: 2}, "another was made")


async def test_the_next_leader_finds_every_pod_and_whose_it_is(site):
    async with site.controller(), site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        slot = link.claim([KIND], "f", "r1")
        link.took(replace(slot, function="f", revision="r1"), 1)
        pod = slot.id.rpartition(".")[0]
        await becomes_true(
            lambda: "okiba.dev/holding" in site.kube.documents[pod]["metadata"]["annotations"], "it is recorded"
        )
        await becomes_true(lambda: link.warm() == {KIND: 2}, "the pool is full again")
    async with site.controller(), site.gateway() as (link, _):
        assert {(each.id, each.function, each.revision) for each in link.taken("f")} == {(slot.id, "f", "r1")}
        assert len(site.kube.created) == 3
        assert site.kube.deleted == []


async def test_a_container_killed_for_memory_is_told_as_out_of_memory(site):
    async with site.controller(), site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        slot = link.claim([KIND], "f", "r1")
        link.took(replace(slot, function="f", revision="r1"), 1)
        site.kube.end_slot(slot.id.rpartition(".")[0], 0, "Error", 137)
        await becomes_true(lambda: slot.id in dict(listener.gone), "it is gone")
        assert is_out_of_memory(dict(listener.gone)[slot.id])


async def test_a_pod_with_a_dead_slot_goes_when_its_others_are_nobodys(site, monkeypatch):
    monkeypatch.setattr(fleet_module, "SPOILT_S", 0.1)
    async with site.controller(warm_slots=0), site.gateway() as (link, listener):
        link.want(KIND, 8, [8])
        await becomes_true(lambda: link.warm() == {KIND: 8}, "eight slots")
        link.want(KIND, 0, [])
        slot = link.claim([KIND], "f", "r1")
        link.took(replace(slot, function="f", revision="r1"), 1)
        pod, _, number = slot.id.rpartition(".")
        site.kube.agents[pod][int(number)].specialised = True
        dead = next(index for index in range(8) if index != int(number))
        site.kube.end_slot(pod, dead, "Error", 1)
        await becomes_true(lambda: f"{pod}.{dead}" in dict(listener.gone), "the dead slot is told")
        assert site.kube.deleted == []  # a slot of it is somebody's
        link.retire(slot.id, 1)
        await becomes_true(lambda: site.kube.deleted == [(pod, f"uid-{pod}")], "the pod goes")


async def test_a_warm_slot_that_became_somebodys_is_not_given_up(site):
    async with site.controller(idle_slot_ms=200), site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        for agents in site.kube.agents.values():
            agents[0].specialised = True  # by a gateway that has not said so yet
        slots = {slot.id for slot in (link.claim([KIND], "f", "r1"), link.claim([KIND], "f", "r1"))}
    async with site.controller(warm_slots=0, idle_slot_ms=200), site.gateway() as (link, listener):
        await becomes_true(lambda: site.kube.lists > 1, "the pods are looked at")
        assert site.kube.deleted == []
        assert not slots & set(dict(listener.gone))


async def test_warm_pods_beyond_the_pool_go_when_they_have_been_idle(site):
    async with site.controller(warm_slots=1, idle_slot_ms=1500), site.gateway() as (link, _):
        link.want(KIND, 3, [1, 1, 1])
        await becomes_true(lambda: link.warm().get(KIND, 0) >= 3, "three slots")
        link.want(KIND, 0, [])
        await becomes_true(lambda: link.warm() == {KIND: 1}, "one is left")
        await becomes_true(lambda: site.sizes() == [1], "the other pods are gone")


async def test_a_refused_pod_is_tried_again_later_and_the_reason_is_told(site):
    site.kube.refusal = AccessDenied('pods "x" is forbidden: exceeded quota: compute')
    async with site.controller() as fleet, site.gateway() as (link, _):
        await becomes_true(lambda: "exceeded quota" in fleet.trouble(), "the reason is told")
        site.kube.refusal = None
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        await becomes_true(lambda: fleet.trouble() == "", "all is well")


async def test_an_image_that_cannot_be_pulled_is_told_and_the_pod_replaced(site, monkeypatch):
    monkeypatch.setattr(fleet_module, "START_S", 0.3)
    site.kube.starts = False
    async with site.controller(warm_slots=1) as fleet, site.gateway() as (link, _):
        await becomes_true(lambda: site.kube.created, "a pod is asked for")
        name = site.kube.created[0]
        site.kube.documents[name]["spec"]["nodeName"] = "node-1"
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image: okiba-slot"}}
        site.kube.set_status(name, {"phase": "Pending", "containerStatuses": [{"name": "slot-0", "state": waiting}]})
        await becomes_true(lambda: "no such image" in fleet.trouble(), "the reason is told")
        await becomes_true(lambda: (name, f"uid-{name}") in site.kube.deleted, "it is replaced")
        site.kube.starts = True
        await becomes_true(lambda: link.warm() == {KIND: 1}, "the next one serves")


async def test_while_the_api_server_is_away_slots_stay_and_afterwards_pools_fill(site):
    async with site.controller(), site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        site.kube.away = ClusterUnavailable("nobody answers", after_s=0.1)
        slot = link.claim([KIND], "f", "r1")
        link.took(replace(slot, function="f", revision="r1"), 1)
        await becomes_true(lambda: link.taken("f"), "it is taken")
        assert listener.gone == []
        site.kube.away = None
        await becomes_true(lambda: link.warm() == {KIND: 2}, "the pool is full again")
        assert site.kube.deleted == []


async def test_slots_of_a_node_that_is_silent_are_dealt_to_nobody(site):
    async with site.controller(warm_slots=1), site.gateway() as (link, listener):
        await becomes_true(lambda: link.warm() == {KIND: 1}, "a warm slot")
        name = next(iter(site.kube.documents))
        lost = dict(site.kube.documents[name]["status"], conditions=[{"type": "Ready", "status": "False"}])
        site.kube.set_status(name, lost)
        await becomes_true(lambda: dict(listener.gone).get(f"{name}.0") == "its node is silent", "it is told")
        await becomes_true(lambda: link.warm() == {KIND: 1}, "another one is made")


@pytest.mark.parametrize("callers", [3, 7])
async def test_a_slot_of_a_large_class_has_a_pod_of_its_own(site, callers):
    kind = "python3.11/2048"
    async with site.controller(warm_slots=0), site.gateway() as (link, _):
        link.want(kind, callers, [callers])
        await becomes_true(lambda: link.warm() == {kind: callers}, "slots for all")
        assert site.sizes() == [1] * callers


async def test_a_taken_slot_gets_lambdas_share_of_the_processor_where_the_operator_wants_that(site):
    async with site.controller(slot_cpu_floor_m=0), site.gateway() as (link, _):
        await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
        slot = link.claim([KIND], "f", "r1")
        link.took(replace(slot, function="f", revision="r1"), 1)
        pod = slot.id.rpartition(".")[0]
        made = site.kube.documents[pod]["spec"]["containers"][0]["resources"]
        assert made["limits"]["cpu"] == "1000m"
        await becomes_true(lambda: pod in site.kube.resized, "the pod is resized")
        (container,) = site.kube.resized[pod]["spec"]["containers"]
        assert container["resources"]["limits"] == {"cpu": "72m"}


async def test_a_cluster_that_does_not_resize_is_asked_once(site):
    site.kube.can_resize = False
    async with site.controller(slot_cpu_floor_m=0), site.gateway() as (link, _):
        for number in range(3):
            await becomes_true(lambda: link.warm() == {KIND: 2}, "two warm slots")
            slot = link.claim([KIND], f"f{number}", "r1")
            link.took(replace(slot, function=f"f{number}", revision="r1"), 1)
            pod = slot.id.rpartition(".")[0]
            await becomes_true(
                lambda pod=pod: "okiba.dev/holding" in site.kube.documents[pod]["metadata"]["annotations"], "recorded"
            )
        assert site.kube.resized == {}
