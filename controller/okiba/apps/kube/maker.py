"""Makes pods of slots: how many at once, within what bound, and what becomes of a kind whose pods fail."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from okiba.adapters.kube_api import KubeApi
from okiba.adapters.kube_pods import PodChoices, manifest, new_pod_name
from okiba.adapters.kube_watch import Document
from okiba.apps.kube.demand import Demand
from okiba.apps.kube.pod import Pod
from okiba.core.backoff import Setbacks
from okiba.core.errors import CallerError, ClusterUnavailable, NotLeading
from okiba.core.pod_plan import is_growth, most_lacking, pods_for_callers, start_share
from okiba.core.slot_kind import SlotKind
from okiba.settings import Settings

log = logging.getLogger(__name__)

AHEAD: Final = 4
"""Pods made at once while nobody waits; more only slow down who works."""

TRIES: Final = 5
"""How often one pod is asked for while the API server does not answer; the same name makes it the same pod."""

FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 30.0
"""Pauses between failures to make a pod of one kind double from the first to the last."""

TOLD_S: Final = 60.0
"""How long a failure is told after the kind was tried last."""


class PodMaker:
    """Makes pods, which then are in `pods`.

    Args:
        pods: All that are known, by name.
        seen: Told each pod's document as the cluster took it.
        changed: Called when something else may be made now.
    """

    def __init__(
        self,
        settings: Settings,
        api: KubeApi,
        choices: PodChoices,
        pods: dict[str, Pod],
        seen: Callable[[Document], None],
        changed: Callable[[], None],
    ) -> None:
        self._settings, self._api, self._choices = settings, api, choices
        self._pods, self._seen, self._changed = pods, seen, changed
        self._setbacks = Setbacks(FIRST_PAUSE_S, LAST_PAUSE_S)  # kinds of which the last pods could not be made
        self._anchor: Document | None = None
        self._told_unowned = False
        self.tasks: set[asyncio.Task[None]] = set()

    def trouble(self) -> str:
        """Why pods cannot be made, or do not start; empty when nothing is known."""
        refused = list(self._setbacks.reasons(time.monotonic(), TOLD_S))
        stuck = [
            f"pod {pod.name}: {pod.seen.trouble}"
            for pod in self._pods.values()
            if pod.seen is not None and pod.seen.trouble and pod.coming
        ]
        return (stuck + refused + [""])[0]

    def warm(self) -> Counter[str]:
        """Slots that nobody has, or will be, by kind; of pods that are nobody's."""
        counts: Counter[str] = Counter()
        for pod in self._pods.values():
            if pod.nobodys and not pod.deleting and not pod.spoilt:
                counts[str(pod.kind)] += len(pod.warm())
        return counts

    def make_wanted(self, demand: Demand) -> bool:
        """Callers wait: everything at once; whether any pod is being made for them."""
        for kind in demand.kinds():
            parsed, waiting = SlotKind.parse(kind), demand.waiting(kind)
            if is_growth(waiting, parsed) and not demand.lasts(kind):
                continue
            coming = [len(pod.coming) for pod in self._pods.values() if pod.coming and str(pod.kind) == kind]
            for size in pods_for_callers(waiting, parsed.memory_mb, coming):
                if not self._make(parsed, size):
                    break
        wanted = set(demand.kinds())
        return any(pod.coming and str(pod.kind) in wanted for pod in self._pods.values())

    def make_ahead(self, pools: Mapping[str, int]) -> None:
        """Nobody waits: a few pods at a time, of the pools that lack most."""
        have = self.warm()
        coming = [pod for pod in self._pods.values() if pod.coming]
        for pod in coming:
            have[str(pod.kind)] += len(pod.coming)
        for _ in range(AHEAD - len(coming)):
            made = next((kind for kind in most_lacking(pools, have) if self._make(SlotKind.parse(kind), 1)), None)
            if made is None:
                return
            have[made] += 1

    def succeeded(self, pod: Pod) -> None:
        """A slot of the pod serves."""
        self._setbacks.succeeded(str(pod.kind))

    def failed(self, kind: SlotKind, reason: str) -> None:
        """A pod of this kind could not be made, or did not start: the next one waits longer."""
        pause_s = self._setbacks.failed(str(kind), reason, time.monotonic())
        if pause_s is not None:
            log.error("a pod could not be made", extra={"kind": str(kind), "reason": reason, "pause_s": pause_s})

    @property
    def full(self) -> bool:
        """No pod more may be made."""
        return sum(pod.living for pod in self._pods.values()) >= self._settings.max_slots

    def _make(self, kind: SlotKind, size: int) -> bool:
        """Begins to make a pod, unless there is no room or pods of this kind fail just now."""
        if self._setbacks.pausing(str(kind), time.monotonic()):
            return False
        room = self._settings.max_slots - sum(pod.living for pod in self._pods.values())
        if room <= 0:
            return False
        pod = Pod(new_pod_name(), kind, min(size, room))
        self._pods[pod.name] = pod
        task = asyncio.create_task(self._create(pod))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return True

    async def _create(self, pod: Pod) -> None:
        try:
            document = await self._asked_for(pod)
        except (CallerError, ClusterUnavailable) as trouble:
            self._forget(pod)
            self.failed(pod.kind, str(trouble))
        except NotLeading:
            self._forget(pod)
        except BaseException:
            self._forget(pod)
            raise
        else:
            self._seen(document)

    async def _asked_for(self, pod: Pod) -> Document:
        floor_m, percent = self._settings.slot_cpu_floor_m, self._settings.slot_request_percent
        share = start_share(pod.kind.memory_mb, floor_m, percent)
        attempt = 0
        while True:
            wanted = manifest(pod.name, pod.kind, pod.size, share, self._choices, await self._owner())
            try:
                return await self._api.call(self._api.create_pod, wanted)
            except ClusterUnavailable as trouble:
                attempt += 1
                if attempt == TRIES:
                    raise
                await asyncio.sleep(max(trouble.after_s, FIRST_PAUSE_S * 2**attempt))

    async def _owner(self) -> Document | None:
        """The ConfigMap that owns every pod; looked for again while it is not there."""
        if self._anchor is None:
            self._anchor = await self._api.call(self._api.config_map, self._choices.anchor)
            if self._anchor is None and not self._told_unowned:
                self._told_unowned = True
                extra = {"namespace": self._api.namespace, "config_map": self._choices.anchor}
                log.warning("pods have no owner: the chart's ConfigMap is not there", extra=extra)
        return self._anchor

    def _forget(self, pod: Pod) -> None:
        if pod.seen is None:
            self._pods.pop(pod.name, None)
        self._changed()
