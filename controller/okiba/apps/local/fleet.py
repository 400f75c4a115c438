"""The local fleet: slots as processes of this machine, made ahead of time, dealt to the gateway, ended (`SlotKeeper`).

    registry, layers ──▶ desired pools ──▶ make one at a time, at low priority ─┐
    gateway: want ──────▶ callers wait ──▶ make many at once ───────────────────┴─▶ warm ──▶ dealt ──▶ taken ──▶ ended

What a slot is, its process says (a pidfd, its record, its agent), not this controller's memory: a controller that
comes after this one finds every slot again in slots/ID.json.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Final

from okiba.adapters.fleet_link import FleetServer
from okiba.adapters.local_python import find_interpreter
from okiba.adapters.redis_layers import RedisLayers
from okiba.adapters.redis_link import RedisLink
from okiba.apps.local.slots import cgroups
from okiba.apps.local.slots.needs import Needs
from okiba.apps.local.slots.nursery import Ground, Nursery, Pedigree, new_slot_id, runtime_folder
from okiba.apps.local.slots.process import END_S, LAST_WORDS_S, LocalSlot, shut_down_unrecorded
from okiba.apps.local.slots.records import read_records
from okiba.core.backoff import Setbacks
from okiba.core.errors import NoSlot, OkibaError, SlotLost, Unsupported
from okiba.core.pools import split_kind
from okiba.ports import Registry, SlotAddress
from okiba.settings import Settings

log = logging.getLogger(__name__)

URGENT_PER_CORE: Final = 2
"""Slots made at once while callers wait; more only take each other's time (a start is all CPU)."""

LOOK_S: Final = 2.0
"""Pause between two looks for what nobody tells the fleet."""

FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 30.0
"""Pauses between failures to make a slot of one kind double from the first to the last."""

FULL_S: Final = 10.0
"""How often the log says that the machine is full."""


class LocalFleet:
    """All slots of this machine.

    Args:
        registry: Tells which Python versions and layers are in use.
        link: Where slots' learned modules are read from.
    """

    def __init__(self, settings: Settings, registry: Registry, link: RedisLink) -> None:
        self._settings = settings
        self._told_full = -FULL_S
        self._changed = asyncio.Event()
        self._needs = Needs(settings, registry, RedisLayers(link), self._changed.set)
        self._server = FleetServer(settings.fleet_address, settings.platform_key, self)
        self._folder = settings.state_dir / "slots"
        self._groups = _make_groups(settings.state_dir)
        self._ground = Ground(
            runtime=runtime_folder(settings.state_dir),
            sockets=_sockets_folder(settings.fleet_address),
            log=settings.state_dir / "logs" / "slots.log",
            lifeline=settings.lifeline_fd,
            groups=self._groups,
        )
        self._nurseries: dict[str, Nursery] = {}
        self._unborn: set[str] = set()
        self._wanted: Counter[str] = Counter()
        self._starting: Counter[str] = Counter()
        self._slots: dict[str, LocalSlot] = {}
        self._dealt: set[str] = set()
        self._setbacks = Setbacks(FIRST_PAUSE_S, LAST_PAUSE_S)  # kinds of which the last slots could not be made
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keeps the fleet; for ever, until cancelled. Slots outlive it."""
        self._adopt()
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self._server.run())
                parts.create_task(self._needs.follow())
                parts.create_task(self._look_around())
                parts.create_task(self._fill())
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        """Slots go on without this controller; what it had begun does not."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self._slots.values():
            slot.let_go()
        await asyncio.gather(*(nursery.end() for nursery in self._nurseries.values()))

    # --- SlotKeeper ---------------------------------------------------------------------------------------------------

    def slots(self) -> Sequence[SlotAddress]:
        """Every slot that may be dealt, or has been."""
        slots = [self._slots[slot_id] for slot_id in self._dealt]
        return [slot.record.address for slot in slots if not slot.ending]

    def took(self, slot_id: str, function: str, revision: str) -> None:
        """The slot has become this function's; its pool is filled up again."""
        slot = self._slots.get(slot_id)
        if slot is None:
            self._server.gone(slot_id, "unknown")
            return
        slot.take(function, revision)
        self._needs.used(slot.kind)

    def want(self, kind: str, count: int, each: Sequence[int] = ()) -> None:
        """So many calls wait for slots of this kind."""
        del each  # a slot here is alone in its pod, whoever it is for
        self._wanted[kind] = count
        if count > 0 and (nursery := self._nurseries.get(kind)):
            nursery.hurry()
        self._needs.used(kind)

    def retire(self, slot_id: str) -> None:
        """The slot ends; one that has been somebody's, after its last log lines have been read."""
        slot = self._slots.get(slot_id)
        if slot is None:
            self._server.gone(slot_id, "unknown")
        elif not slot.ending:
            slot.ending = True
            self._spawn(slot.end(0.0 if slot.warm else LAST_WORDS_S))

    async def _look_around(self) -> None:
        """Looks for what nobody tells the fleet: modules that slots learned, cgroups that have emptied."""
        while True:
            await self._needs.look_up_preloads()
            if self._groups is not None:
                for group in self._groups.others(self._unborn.union(self._slots)):
                    cgroups.remove_group(group)
            self._changed.set()
            await asyncio.sleep(LOOK_S)

    # --- making -------------------------------------------------------------------------------------------------------

    async def _fill(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._make_wanted()
            if not any(self._starting.values()):
                self._make_ahead()
            self._end_useless()

    def _make_wanted(self) -> None:
        """Callers wait: as many at once as the machine can make use of."""
        for kind, count in list(self._wanted.items()):
            while self._starting[kind] < count and self._starting.total() < URGENT_PER_CORE * (os.cpu_count() or 1):
                if not self._make(kind, urgent=True):
                    break

    def _make_ahead(self) -> None:
        """Nobody waits: one slot, of the pool that lacks most."""
        warm = self._warm(fresh=True)
        missing = {kind: count - warm[kind] for kind, count in self._needs.pools().items() if count > warm[kind]}
        for kind in sorted(missing, key=lambda kind: -missing[kind]):
            if self._make(kind, urgent=False):
                return

    def _make(self, kind: str, *, urgent: bool) -> bool:
        """Begins to make a slot, unless the machine is full or slots of this kind fail just now."""
        if self._setbacks.pausing(kind, time.monotonic()):
            return False
        if len(self._dealt) + self._starting.total() >= self._settings.max_slots:
            if urgent:
                self._make_room(kind)
            return False
        self._starting[kind] += 1
        self._spawn(self._start(kind, urgent=urgent))
        return True

    async def _start(self, kind: str, *, urgent: bool) -> None:
        slot_id = new_slot_id()
        self._unborn.add(slot_id)
        try:
            nursery = await self._nursery(kind)
            await nursery.until_ready(urgent=urgent)
            slot = LocalSlot(await nursery.slot(slot_id, urgent=urgent), self._folder, self._died)
            self._slots[slot.id] = slot
            self._deal(slot)
            self._setbacks.succeeded(kind)
        except (OkibaError, OSError) as error:
            self._failed(kind, error)
        finally:
            self._unborn.discard(slot_id)
            self._starting[kind] -= 1
            self._changed.set()

    async def _nursery(self, kind: str) -> Nursery:
        """The kind's nursery; another one when it has died, or slots have learned modules since it was started.

        Raises:
            PlatformError: There is no such Python here, the layer is not built, or no process can be started.
        """
        pedigree = await self._pedigree(kind)
        nursery = self._nurseries.get(kind)
        if nursery and not nursery.dead and nursery.pedigree == pedigree:
            return nursery
        if nursery:
            nursery.close()
        nursery = self._nurseries[kind] = Nursery(pedigree, self._ground)
        return nursery

    async def _pedigree(self, kind: str) -> Pedigree:
        runtime, layer = split_kind(kind)
        interpreter = await asyncio.to_thread(find_interpreter, runtime)
        if interpreter is None:
            raise NoSlot(f"no interpreter for {runtime} works on this machine; `okiba doctor` lists those that do")
        if not self._needs.built(kind):
            raise NoSlot(f"layer {layer} is not built")
        return Pedigree(kind, interpreter, self._needs.import_path(kind), self._needs.preload(kind) or ())

    def _deal(self, slot: LocalSlot) -> None:
        self._dealt.add(slot.id)
        self._server.deal(slot.record.address)
        # One caller less, until the gateway says how many there are now: nothing is made twice for the same caller.
        self._wanted[slot.kind] -= 1

    def _failed(self, kind: str, error: Exception) -> None:
        pause_s = self._setbacks.failed(kind, str(error), time.monotonic())
        if pause_s is not None:
            log.error("a slot could not be made", extra={"kind": kind, "reason": str(error), "pause_s": pause_s})

    # --- ending -------------------------------------------------------------------------------------------------------

    def _make_room(self, kind: str) -> None:
        """Callers wait and the machine is full: a warm slot that nobody waits for goes."""
        useless = [slot for slot in self._warm_slots() if slot.kind != kind and self._wanted[slot.kind] <= 0]
        if useless:
            self._spawn(self._end_if_warm(useless[0]))
        elif time.monotonic() - self._told_full > FULL_S:
            self._told_full = time.monotonic()
            log.warning("callers wait and no more slots may be made", extra={"max_slots": self._settings.max_slots})

    def _end_useless(self) -> None:
        """Ends warm slots that are too many, or lack modules learned since they were made and have a better one beside.

        Nurseries of kinds that nobody uses end too.
        """
        pools = self._needs.pools()
        surplus = self._warm() - Counter(pools)
        fresh = self._warm(fresh=True)
        for slot in self._warm_slots():
            kind = slot.kind
            outdated = not self._is_fresh(slot) and fresh[kind] >= pools.get(kind, 0)
            if outdated or (surplus[kind] > 0 and self._needs.idle(kind)):
                surplus[kind] -= 1
                self._spawn(self._end_if_warm(slot))
        for kind in [kind for kind in self._nurseries if kind not in pools and self._needs.idle(kind)]:
            if not self._starting[kind]:
                self._nurseries.pop(kind).close()

    async def _end_if_warm(self, slot: LocalSlot) -> None:
        """Ends a slot unless the gateway has claimed it meanwhile: not a call is harmed by what goes on here."""
        slot.ending = True
        if await slot.shut_down_if_warm():
            await slot.end(END_S)
        else:
            slot.ending = False

    def _died(self, slot: LocalSlot) -> None:
        """A slot's agent has ended, whoever wanted it."""
        self._slots.pop(slot.id, None)
        self._changed.set()
        if slot.id in self._dealt:
            self._dealt.discard(slot.id)
            self._server.gone(slot.id, "ended" if slot.ending else "died")
            if not slot.ending:
                log.warning("a slot died", extra={"slot": slot.id, "function": slot.record.address.function})

    # --- beginning ----------------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Finds the slots that an earlier controller made."""
        for record in read_records(self._folder):
            try:
                slot = LocalSlot(record, self._folder, self._died)
            except SlotLost:
                continue
            self._slots[slot.id] = slot
            self._dealt.add(slot.id)
        for socket in self._ground.sockets.iterdir():
            if socket.name not in self._slots:  # its controller died before it could write a record
                self._spawn(shut_down_unrecorded(socket))
        log.info("slots adopted", extra={"count": len(self._slots)})

    # --- counting -----------------------------------------------------------------------------------------------------

    def _warm_slots(self) -> list[LocalSlot]:
        slots = [self._slots[slot_id] for slot_id in self._dealt]
        return [slot for slot in slots if slot.warm and not slot.ending]

    def _is_fresh(self, slot: LocalSlot) -> bool:
        """Whether it has imported what a slot made now would."""
        preload = self._needs.preload(slot.kind)
        return preload is None or slot.record.preload == ",".join(preload)

    def _warm(self, *, fresh: bool = False) -> Counter[str]:
        return Counter(slot.kind for slot in self._warm_slots() if not fresh or self._is_fresh(slot))

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _sockets_folder(fleet_address: str) -> Path:
    """Beside the fleet's own socket; whatever listens in it is a slot."""
    folder = Path(fleet_address.removeprefix("unix:")).parent / "slots"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _make_groups(state_dir: Path) -> cgroups.Root | None:
    try:
        return cgroups.Root.make(cgroups.name_of(state_dir))
    except Unsupported as reason:
        log.info("slots have no memory cgroup; their agents watch it", extra={"reason": str(reason)})
        return None
