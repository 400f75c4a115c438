"""The fleet on Kubernetes: slots as containers of pods, made ahead of time, dealt to gateways, ended (`SlotKeeper`).

    registry, layers ──▶ desired pools ──▶ a few one-slot pods at a time ───────────┐
    gateways: want ─────▶ callers wait ──▶ pods at once, of 8 slots for many callers ┴▶ warm ─▶ dealt ─▶ taken ─▶ ended

Level-based: what is, the cluster says (a watch, and a list now and then); whose a pod has become is written on it; so a
controller that leads after this one finds everything. Nothing is ever deleted for not being in a list: a pod ends
because this keeper decided so about that very pod, and before that every agent in it has ended, or has been given up.
Whether a warm slot may go, its agent decides: it refuses once a function is in it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from typing import Final

from okiba.adapters import kube_slots
from okiba.adapters.fleet_server import FleetServer
from okiba.adapters.kube_api import KubeApi
from okiba.adapters.kube_pods import SELECTOR, PodChoices, holding_patch, pod_seen, resize_patch
from okiba.adapters.kube_watch import Change, Document, Listing, Watch
from okiba.apps.kube.demand import Demand
from okiba.apps.kube.maker import PodMaker
from okiba.apps.kube.needs import KubeNeeds
from okiba.apps.kube.pod import Pod, SlotState
from okiba.core.errors import CallerError, ClusterUnavailable, NotFound, NotLeading
from okiba.core.pod_plan import START_CPU_M, share_of
from okiba.core.slot_end import DIED, ENDED, UNKNOWN, end_reason
from okiba.core.slot_pod import PodSeen, SlotPhase
from okiba.ports import SlotAddress
from okiba.settings import Settings

log = logging.getLogger(__name__)

LAST_WORDS_S: Final = 0.5
"""Between a slot's retirement and its end: the gateway still reads its last log lines (it asks 4 times a second)."""

GRACE_S: Final = 1
"""What is left of a pod whose agents have ended, or were given up, gets to end by itself."""

START_S: Final = 60.0
"""A pod that does not run, or an agent that does not serve, for so long is replaced."""

UNSCHEDULED_S: Final = 600.0
"""The same while no node has room: one may be on its way, and is only while a pod waits for it."""

ADOPTED_S: Final = 10.0
"""A pod that old was dealt by an earlier controller: gateways may be using its slots, whatever is on record."""

SPOILT_S: Final = 5.0
"""What is left of a pod with dead slots stays for so long: its function may be about to take the next one."""

FULL_S: Final = 10.0
"""How often the log says that there is no room for more slots."""

RECORD_S: Final = 0.1

EPITAPHS: Final = 1_000
"""Reasons of slots' ends that are remembered, for gateways that ask once more."""

LOOK_S: Final = 1.0
RETRY_S: Final = 1.0


class KubeFleet:
    """All slots of one namespace.

    Args:
        needs: Tells which pools should have how many warm slots.
        choices: What the operator decides about pods.
    """

    def __init__(self, settings: Settings, api: KubeApi, needs: KubeNeeds, choices: PodChoices) -> None:
        self._settings = settings
        self._api = api
        self._needs = needs
        self._pods: dict[str, Pod] = {}
        self._changed = asyncio.Event()
        self._demand = Demand(self._changed.set)
        self._server = FleetServer(settings.fleet_address, settings.platform_key, self)
        self._maker = PodMaker(settings, api, choices, self._pods, self._saw, self._changed.set)
        self._unrecorded: set[str] = set()
        self._news_to_record = asyncio.Event()
        self._resizes = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._listed = asyncio.Event()
        self._epitaphs: OrderedDict[str, str] = OrderedDict()  # why slots ended, lately
        self._told_full = -FULL_S

    async def run(self) -> None:
        """Keeps the fleet; for ever, until cancelled. Pods outlive it."""
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self._follow())
                await self._listed.wait()
                parts.create_task(self._needs.follow(self._changed.set))
                parts.create_task(self._server.run())
                parts.create_task(self._look_around())
                parts.create_task(self._fill())
                parts.create_task(self._record())
        finally:
            for task in [*self._tasks, *self._maker.tasks]:
                task.cancel()

    def trouble(self) -> str:
        """Why slots cannot be made as they should be; empty when all is well."""
        return self._maker.trouble()

    def slots_by_function(self) -> Mapping[str, int]:
        """How many slots each function has; those with none are left out."""
        counts: Counter[str] = Counter()
        for pod in self._pods.values():
            counts[pod.holding.function] += pod.states.count(SlotState.TAKEN)
        return +counts

    def pods(self) -> int:
        """How many pods of slots there are."""
        return len(self._pods)

    def slots_by_pool(self) -> Mapping[tuple[str, SlotState], int]:
        """How many slots there are of each kind, by their state; those that have ended are left out."""
        every = ((str(pod.kind), state) for pod in self._pods.values() for state in pod.states)
        return Counter((kind, state) for kind, state in every if state is not SlotState.ENDED)

    # --- SlotKeeper ---------------------------------------------------------------------------------------------------

    def slots(self) -> Sequence[SlotAddress]:
        """Every slot that may be dealt, or has been."""
        dealt = (SlotState.WARM, SlotState.TAKEN)
        return [
            pod.address(number)
            for pod in self._pods.values()
            for number, state in enumerate(pod.states)
            if state in dealt and pod.seen is not None
        ]

    def took(self, slot_id: str, function: str, revision: str) -> None:
        """The slot becomes this function's; its pool is filled up again."""
        pod, number = self._find(slot_id)
        if pod is None or pod.states[number] is SlotState.ENDED:
            self._server.gone(slot_id, self._epitaphs.get(slot_id, UNKNOWN))
        elif pod.take(number, function, revision):
            self._needs.used(pod.kind)
            self._unrecorded.add(pod.name)
            self._news_to_record.set()
            self._changed.set()

    def want(self, kind: str, count: int, each: Sequence[int] = ()) -> None:
        """So many calls wait for slots of this kind, so many per function."""
        self._demand.set(kind, each or ((count,) if count else ()))
        if count:
            self._needs.wanted(kind)

    def retire(self, slot_id: str) -> None:
        """The slot ends, after its last log lines have been read; its pod, when no other slot of it is used."""
        pod, number = self._find(slot_id)
        if pod is None or pod.states[number] is SlotState.ENDED:
            self._server.gone(slot_id, self._epitaphs.get(slot_id, UNKNOWN))
        elif pod.move(number, SlotState.LEAVING):
            pod.parting.add(number)
            self._spawn(self._end(pod, number))

    def _find(self, slot_id: str) -> tuple[Pod | None, int]:
        name, _, number = slot_id.rpartition(".")
        pod = self._pods.get(name)
        known = pod is not None and number.isdigit() and int(number) < pod.size
        return (pod, int(number)) if known else (None, 0)

    # --- what the cluster says ----------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Knows the pods as the cluster tells them; while it is away they stay as they were."""
        watch = Watch(
            "pods",
            lambda: self._api.pods(SELECTOR),
            lambda version: self._api.watch_pods(SELECTOR, version),
        )
        async for news in watch.follow():
            if isinstance(news, Listing):
                self._saw_all(news)
            elif isinstance(news, Change):
                self._saw_change(news)

    def _saw_all(self, listing: Listing) -> None:
        seen = {document["metadata"]["uid"] for document in listing.objects}
        for document in listing.objects:
            self._saw(document)
        for pod in list(self._pods.values()):
            if pod.uid and pod.uid not in seen:
                self._spawn(self._verify(pod))
        if not self._listed.is_set():
            log.info("pods found", extra={"count": len(self._pods)})
            self._listed.set()

    def _saw_change(self, change: Change) -> None:
        if not change.gone:
            self._saw(change.object)
            return
        pod = self._pods.get(change.object["metadata"]["name"])
        if pod is not None and pod.uid == change.object["metadata"]["uid"]:
            self._saw(change.object)
            self._vanished(pod)

    async def _verify(self, pod: Pod) -> None:
        """A pod that a list lacks has gone only if the cluster says so by its name, too."""
        try:
            document = await self._api.call(self._api.pod, pod.name)
        except (ClusterUnavailable, CallerError):
            return  # another list will come
        if document is None or document["metadata"]["uid"] != pod.uid:
            self._vanished(pod)

    def _saw(self, document: Document) -> None:
        seen = pod_seen(document)
        if seen is None:
            return
        pod = self._pods.get(seen.name)
        if pod is None:
            pod = self._adopted(seen)
        elif pod.uid not in ("", seen.uid):
            return  # not the pod of that name that is known
        pod.seen = seen
        for number, slot in enumerate(seen.slots[: pod.size]):
            if slot.phase is SlotPhase.ENDED:
                wanted = pod.deleting or seen.ending or pod.states[number] is SlotState.LEAVING
                self._ended(pod, number, end_reason(slot.reason, slot.exit_code, wanted=wanted))
            elif seen.ending or seen.lost:
                self._forsake(pod, number, "its pod is being deleted" if seen.ending else "its node is silent")
            elif slot.phase is SlotPhase.RUNNING and seen.ip:
                self._begin_warming(pod, number)
        self._changed.set()

    def _adopted(self, seen: PodSeen) -> Pod:
        pod = self._pods[seen.name] = Pod(seen.name, seen.kind, len(seen.slots), seen)
        age_s = time.time() - seen.created_ms / 1000
        for number, slot in enumerate(seen.slots):
            old = slot.phase is SlotPhase.RUNNING and seen.ip and age_s > ADOPTED_S
            if old and pod.states[number] is SlotState.COMING:
                pod.states[number] = SlotState.WARM
        return pod

    def _forsake(self, pod: Pod, number: int, reason: str) -> None:
        """Nobody is to take the slot any more; whoever has it may finish, or has noticed."""
        if pod.states[number] in (SlotState.COMING, SlotState.WARM):
            self._ended(pod, number, reason)

    def _ended(self, pod: Pod, number: int, reason: str) -> None:
        """The slot's container has ended, or will take nobody in."""
        before = pod.states[number]
        if not pod.move(number, SlotState.ENDED):
            return
        self._server.gone(pod.slot_id(number), reason)
        self._epitaphs[pod.slot_id(number)] = reason
        while len(self._epitaphs) > EPITAPHS:
            self._epitaphs.popitem(last=False)
        if reason != ENDED and before in (SlotState.WARM, SlotState.TAKEN):
            extra = {"slot": pod.slot_id(number), "function": pod.holding.function, "reason": reason}
            log.warning("a slot died", extra=extra)
        self._changed.set()

    def _vanished(self, pod: Pod) -> None:
        if self._pods.get(pod.name) is not pod:
            return
        for number in range(pod.size):
            self._ended(pod, number, ENDED if pod.deleting else f"{DIED}: its pod was deleted")
        del self._pods[pod.name]
        self._unrecorded.discard(pod.name)
        self._changed.set()

    # --- warming ------------------------------------------------------------------------------------------------------

    def _begin_warming(self, pod: Pod, number: int) -> None:
        if pod.states[number] is SlotState.COMING and number not in pod.warming:
            pod.warming.add(number)
            self._spawn(self._warm(pod, number))

    async def _warm(self, pod: Pod, number: int) -> None:
        """Deals a slot once its agent serves and has what it is to preload."""
        address = pod.address(number)
        try:
            serves = await kube_slots.await_agent(address.address, START_S)
            if serves and pod.kind.layer:
                await self._preload(pod, address)
        finally:
            pod.warming.discard(number)
        if not serves:
            self._ended(pod, number, f"{DIED}: its agent does not answer")
        elif pod.move(number, SlotState.WARM):
            self._maker.succeeded(pod)
            self._server.deal(pod.address(number))
            self._demand.served(str(pod.kind))

    async def _preload(self, pod: Pod, slot: SlotAddress) -> None:
        wish = await self._needs.wish(pod.kind)
        why_not = await kube_slots.preload(slot.address, wish) if wish else "its layer is not known"
        if why_not:  # it still fetches the layer when it is taken
            log.warning("a slot has not preloaded", extra={"slot": slot.id, "reason": why_not})

    # --- making and ending --------------------------------------------------------------------------------------------

    async def _fill(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._maker.make_wanted(self._demand):
                self._maker.make_ahead(self._needs.pools())
            self._end_useless()
            if self._maker.full and self._demand.kinds():
                self._make_room()

    def _end_useless(self) -> None:
        """Ends pods that nobody needs: used up, spoilt, or more than their pool should have."""
        pools = self._needs.pools()
        warm = self._maker.warm()
        for pod in list(self._pods.values()):
            if pod.deleting or not pod.uid:
                continue
            kind, count = str(pod.kind), len(pod.warm())
            if pod.unused:
                pod.deleting = True
                self._spawn(self._delete(pod))
            elif pod.spoilt and pod.unmoved_s > SPOILT_S:
                self._give_up_warm(pod)
            elif self._idle(pod) and warm[kind] - count >= pools.get(kind, 0) and not self._demand.waiting(kind):
                warm[kind] -= count
                self._give_up_warm(pod)

    def _idle(self, pod: Pod) -> bool:
        """Whether all of the pod has been warm, and nobody's, for as long as an idle slot is kept."""
        all_warm = pod.nobodys and len(pod.warm()) == pod.size
        return all_warm and pod.unmoved_s > self._settings.idle_slot_ms / 1000

    def _make_room(self) -> None:
        """Callers wait and there is no room: a warm pod of a kind that nobody waits for goes."""
        wanted = self._demand.kinds()
        useless = [pod for pod in self._pods.values() if pod.nobodys and pod.warm() and str(pod.kind) not in wanted]
        if useless:
            self._give_up_warm(useless[0])
        elif time.monotonic() - self._told_full > FULL_S:
            self._told_full = time.monotonic()
            log.warning("callers wait and no more slots may be made", extra={"max_slots": self._settings.max_slots})

    def _give_up_warm(self, pod: Pod) -> None:
        for number in pod.warm():
            if number not in pod.parting:
                pod.parting.add(number)
                self._spawn(self._end_if_warm(pod, number))

    async def _end_if_warm(self, pod: Pod, number: int) -> None:
        """Ends a slot unless a gateway has put a function into it: not a call is harmed by what goes on here."""
        ended = await kube_slots.end(pod.address(number).address, "")
        pod.parting.discard(number)
        pod.touch()  # one that refuses is not asked again at once
        if ended and pod.states[number] is SlotState.WARM:
            self._ended(pod, number, ENDED)
        self._changed.set()

    async def _end(self, pod: Pod, number: int) -> None:
        """Ends a slot that its gateway has done with."""
        await asyncio.sleep(LAST_WORDS_S)
        pod.parting.discard(number)
        if not pod.unused:  # else the whole pod goes, which is quicker
            grant = kube_slots.grant_of(self._settings.platform_key, pod.slot_id(number))
            await kube_slots.end(pod.address(number).address, grant)
        self._changed.set()

    async def _delete(self, pod: Pod) -> None:
        """That very pod goes; asked for until the cluster has heard it."""
        while self._pods.get(pod.name) is pod:
            try:
                await self._api.call(self._api.delete_pod, pod.name, pod.uid, GRACE_S)
            except NotLeading:
                return
            except (ClusterUnavailable, CallerError) as trouble:
                log.warning("a pod cannot be deleted", extra={"pod": pod.name, "reason": str(trouble)})
                await asyncio.sleep(max(RETRY_S, getattr(trouble, "after_s", 0.0)))
            else:
                return

    # --- what nobody tells --------------------------------------------------------------------------------------------

    async def _look_around(self) -> None:
        """Looks for pods that do not start, and for time that has passed."""
        while True:
            for pod in list(self._pods.values()):
                if pod.coming and self._is_stuck(pod):
                    self._replace(pod)
            await self._needs.look_up_layers()
            self._changed.set()
            await asyncio.sleep(LOOK_S)

    def _is_stuck(self, pod: Pod) -> bool:
        unscheduled = pod.seen is not None and not pod.seen.node
        patience_s = UNSCHEDULED_S if unscheduled else START_S
        return bool(pod.uid) and time.monotonic() - pod.begun_at > patience_s and not pod.warming

    def _replace(self, pod: Pod) -> None:
        """Gives up what of a pod does not start; the pools and the callers ask for another."""
        reason = (pod.seen.trouble if pod.seen else "") or f"it has not started within {START_S:g} s"
        self._maker.failed(pod.kind, f"pod {pod.name}: {reason}")
        for number, state in enumerate(pod.states):
            if state is SlotState.COMING:
                self._ended(pod, number, f"{DIED}: {reason}")

    async def _record(self) -> None:
        """Writes on pods whose they have become: for a controller that comes after this one, and for people."""
        while True:
            await self._news_to_record.wait()
            self._news_to_record.clear()
            await asyncio.sleep(RECORD_S)  # slots of one pod are mostly taken together
            for name in list(self._unrecorded):
                await self._record_one(name)

    async def _record_one(self, name: str) -> None:
        self._unrecorded.discard(name)
        pod = self._pods.get(name)
        if pod is None or pod.unused:
            return
        try:
            await self._api.call(self._api.patch_pod, name, holding_patch(pod.holding))
            await self._resize(pod)
        except (ClusterUnavailable, NotLeading) as trouble:
            self._unrecorded.add(name)
            self._news_to_record.set()
            await asyncio.sleep(max(RETRY_S, getattr(trouble, "after_s", 0.0)))
        except CallerError as refusal:
            log.warning("a pod cannot be labelled", extra={"pod": name, "reason": str(refusal)})

    async def _resize(self, pod: Pod) -> None:
        """A pod that is somebody's may use what its memory gives it, where the cluster can change that."""
        floor_m, percent = self._settings.slot_cpu_floor_m, self._settings.slot_request_percent
        share = share_of(pod.kind.memory_mb, floor_m, percent)
        if not self._resizes or pod.resized or share.cpu_m >= START_CPU_M:
            return
        try:
            await self._api.call(self._api.resize_pod, pod.name, resize_patch(pod.size, share))
            pod.resized = True
        except NotFound:
            self._resizes = pod.name not in self._pods  # else there is no such subresource
        except CallerError as refusal:
            self._resizes = False
            log.warning("pods keep the processor they were made with", extra={"reason": str(refusal)})

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("work on a pod broke", exc_info=task.exception())
