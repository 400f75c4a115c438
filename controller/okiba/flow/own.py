"""Which functions are this gateway's: taken when their owner dies or lets go, given up when another should have them.

    record free, or its gateway dead; hashing says us ──take──▶ fence what runs, recover its queue, serve
    hashing says another, who has settled             ──give up──▶ drain, hand the slots over, forward calls
    record says another                               ──lose──▶ let go at once: its epoch has fenced us off

While the store is away nothing changes hands, and everybody goes on with what he has. Nothing here is on the path of a
call: `held` is all that one looks at, and no clock decides whether it may run; the slots do that, by the epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Protocol
from weakref import WeakValueDictionary

from okiba.core.errors import PlatformError, StoreUnavailable
from okiba.core.membership import BEAT_S, GAP_S, LOOK_S, Beat, Member, Roll
from okiba.core.placement import HandedSlot, Owner, Step, inherited_doubts, next_step, proposed
from okiba.flow.inherit import Inheritance
from okiba.flow.share import SharedScaler
from okiba.ports import Fleet, SlotAddress

log = logging.getLogger(__name__)

ALL_S: Final = 10.0
"""How often every record is read though nothing seems to have changed."""

AT_ONCE: Final = 32
"""Functions that change hands at the same time."""

_RELEASE_MARGIN_S: Final = 15.0
"""How much longer than its timeout a call may keep a slot that was handed over busy."""


class Superseded(PlatformError):
    """Another process goes by this gateway's name, and started later: this one has no business left."""


class Owners(Protocol):
    """Which gateways there are, and which of them owns a function."""

    async def new_life(self) -> int:
        """A number higher than that of every gateway's life before."""
        ...

    async def beat(self, me: Member) -> tuple[int, list[Beat]] | None:
        """Says that `me` lives; the store's clock in ms and every gateway's last beat. None: it has a later life."""
        ...

    async def beats(self) -> tuple[int, list[Beat]]:
        """The same without saying anything."""
        ...

    async def leave(self, me: Member) -> None:
        """`me` ends, in good order."""
        ...

    async def read(self, functions: Sequence[str]) -> dict[str, Owner | None]:
        """What is on record about each function."""
        ...

    async def claim(self, function: str, me: Member, seen: Owner | None) -> int:
        """The epoch in which `me` owns the function from now on; 0 when the record is not as it was seen."""
        ...

    async def give_up(
        self,
        function: str,
        owner: str,
        epoch: int,
        doubts: Sequence[tuple[str, int]] = (),
        handed: Sequence[HandedSlot] = (),
        *,
        for_good: bool = False,
    ) -> bool:
        """Whoever is proposed may take the function, with these slots; False when it is not the owner's any more."""
        ...


class Peers(Protocol):
    """The other gateways. What cannot be told them they find out by themselves, later."""

    def know(self, members: Iterable[Member]) -> None:
        """These are the ones who live; connections to others are closed."""
        ...

    def wake(self, gateway: str, function: str) -> None:
        """The function's queue has got work."""
        ...

    def offer(self, gateway: str, function: str) -> None:
        """The function is free for that gateway to take."""
        ...

    async def released(self, gateway: str, function: str, slot_id: str, timeout_s: float) -> None:
        """Returns when a former owner has let go of a slot that it handed over busy, or can not be asked."""
        ...


class Queues(Protocol):
    """Whoever empties functions' queues, which only a function's owner does."""

    async def begin(self, name: str, inheritance: Inheritance) -> None:
        """What is leased is leased anew, and the queue is emptied from now on.

        Raises:
            StoreUnavailable: To be called again.
        """
        ...

    async def end(self, name: str) -> None:
        """The queue is let alone, and what is leased of it left as it is."""
        ...


class Ownership:
    """What this gateway owns.

    Args:
        names: Every function there is.
        timeout_s: How long a call of a function may take.
        now_s: A clock that only goes forward.

    Attributes:
        held: Epochs by function: what a call looks at.
    """

    def __init__(
        self,
        roll: Roll,
        owners: Owners,
        peers: Peers,
        fleet: Fleet,
        scaler: SharedScaler,
        queues: Queues,
        names: Callable[[], Collection[str]],
        timeout_s: Callable[[str], float],
        now_s: Callable[[], float],
        held: dict[str, int],
    ) -> None:
        self.roll = roll
        self.held = held
        self._owners = owners
        self._peers = peers
        self._fleet = fleet
        self._scaler = scaler
        self._queues = queues
        self._names = names
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._elsewhere: dict[str, str] = {}
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # as long as somebody has one
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._beaten_s = float("-inf")
        self._read_all_s = float("-inf")
        self._looked_s = float("-inf")
        self._eligible: frozenset[str] = frozenset()
        self._over = False

    # --- for calls --------------------------------------------------------------------------------------------------

    async def whose(self, name: str) -> str:
        """The gateway that has the function, or is to take it: this one, if it could be taken.

        Raises:
            StoreUnavailable: It is not known, and cannot be found out now.
        """
        if name in self.held:
            return self.roll.me.name
        known = self._elsewhere.get(name)
        if known is not None and self._is_serving(known):
            return known
        await self._settle([name])
        return self.roll.me.name if name in self.held else self._elsewhere.get(name) or self._proposed(name)

    def mistaken(self, name: str) -> None:
        """Whoever was taken for the function's owner is none."""
        self._elsewhere.pop(name, None)

    def wake(self, name: str) -> None:
        """The function's queue has got work, and another gateway owns it."""
        gateway = self._elsewhere.get(name) or self._proposed(name)
        if gateway != self.roll.me.name:
            self._peers.wake(gateway, name)

    def look_at(self, name: str) -> None:
        """The function has come or changed, or was offered."""
        self._due.add(name)
        self._wake.set()

    async def function_deleted(self, name: str) -> bool:
        """Nothing of it is anybody's any more; True if it was this gateway's, and has not been made anew since.

        Raises:
            StoreUnavailable: Its record stays, which harms nobody.
        """
        self._elsewhere.pop(name, None)
        async with self._turns.setdefault(name, asyncio.Lock()):
            epoch = self.held.pop(name, None)
            if epoch is None:
                return False
            gone = await self._owners.give_up(name, self.roll.me.name, epoch, for_good=True)
        if name in self._names():
            self.look_at(name)
            return False
        return gone

    # --- looking ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps it true; runs for ever, through any absence of the store."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                log.warning("nothing changes hands while the store is away", extra={"reason": str(error)})
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Beats, sees who lives, and does what follows from that.

        Raises:
            StoreUnavailable: Nothing has changed hands.
        """
        self._wake.clear()
        slept = self._now_s() - self._looked_s > GAP_S  # this process was stopped, or the store away
        changed = await self._call_roll()
        now_s = self._looked_s = self._now_s()
        if changed or slept or now_s - self._read_all_s > ALL_S:
            self._read_all_s = now_s
            self._due.update(self._names())
        due, self._due = self._due, set()
        try:
            await self._settle(sorted(due))
            if self._read_all_s == now_s:
                await self._end_leftovers()
        except BaseException:
            self._due |= due
            raise

    async def _end_leftovers(self) -> None:
        """Ends slots of functions that were deleted while nobody owned them."""
        names, me = self._names(), self.roll.me
        left = [name for name in self._fleet.functions() if name not in names and self._proposed(name) == me.name]
        for name, owner in (await self._owners.read(left)).items():
            if next_step(owner, me.name, me.life, None, self.roll.lives(), me.name) is Step.TAKE:
                for slot in self._fleet.taken(name):
                    self._fleet.retire(slot.id, owner.epoch if owner else me.life)

    async def _call_roll(self) -> bool:
        """True when functions may have to change hands."""
        now_s = self._now_s()
        if self.roll.me.address:
            if now_s - self._beaten_s >= BEAT_S - LOOK_S / 4:
                answer = await self._owners.beat(self.roll.me)
                self._beaten_s = now_s
            else:
                answer = await self._owners.beats()
            if answer is None:
                raise Superseded(f"gateway {self.roll.me.name} has a later life than {self.roll.me.life}")
            if self.roll.look(answer[1], answer[0], self._now_s()):
                self._peers.know(self.roll.living.values())
                log.info("gateways", extra={"living": sorted(self.roll.living)})
        before, self._eligible = self._eligible, self.roll.eligible(self._now_s())
        return self._eligible != before

    async def _settle(self, names: Iterable[str]) -> None:
        """Reads these functions' records and does what they ask for."""
        names = list(names)
        if not names:
            return
        records = await self._owners.read(names)
        await asyncio.gather(*(self._act(name, owner) for name, owner in records.items()))

    async def _act(self, name: str, owner: Owner | None) -> None:
        async with self._at_once, self._turns.setdefault(name, asyncio.Lock()):
            me, held = self.roll.me, self.held.get(name)
            step = next_step(owner, me.name, me.life, held, self.roll.lives(), self._proposed(name))
            if step is Step.TAKE and not self._over:
                await self._take(name, owner)
            elif step is Step.GIVE_UP and held is not None:
                await self._give_up(name, held)
            elif step is Step.LOSE:
                await self._lose(name)
            self._note(name, owner, step)

    def _note(self, name: str, owner: Owner | None, step: Step) -> None:
        if step in {Step.LEAVE, Step.LOSE} and owner is not None and not owner.free and self._is_serving(owner.gateway):
            self._elsewhere[name] = owner.gateway
        else:
            self._elsewhere.pop(name, None)

    def _proposed(self, name: str) -> str:
        return proposed(name, self._eligible) or self.roll.me.name

    def _is_serving(self, gateway: str) -> bool:
        member = self.roll.living.get(gateway)
        return member is not None and not member.leaving

    # --- changing hands ---------------------------------------------------------------------------------------------

    async def _take(self, name: str, seen: Owner | None) -> None:
        me = self.roll.me
        if name not in self._names():
            return
        epoch = await self._owners.claim(name, me, seen)
        if not epoch:
            self.look_at(name)
            return
        doubts = [life for life in inherited_doubts(seen) if life != (me.name, me.life)]
        self.held[name] = epoch
        inheritance = self._scaler.inherit(name, epoch, doubts)
        begun = asyncio.Event()
        for slot, busy in self._left(name, seen):  # they count before the first call comes
            free = partial(self._free, begun, name, slot, seen if busy else None)
            self._scaler.adopt(inheritance, slot, free, busy=busy)
        if seen is not None:
            log.info("takes a function over", extra={"function": name, "epoch": epoch, "of": seen.gateway})
        self._spawn(self._begin(name, epoch, inheritance, begun))

    def _left(self, name: str, seen: Owner | None) -> list[tuple[SlotAddress, bool]]:
        """The slots that a former owner left, and whether he still answers a call on one."""
        if seen is None or not seen.free:
            return [(slot, False) for slot in self._fleet.taken(name)]
        handed = [(SlotAddress(slot.id, slot.kind, slot.address, name, slot.revision), slot) for slot in seen.handed]
        return [(address, slot.busy) for address, slot in handed]

    async def _free(self, begun: asyncio.Event, name: str, slot: SlotAddress, former: Owner | None) -> None:
        """Returns when the slot may be connected to: its outcomes can be settled, and no call is cut off."""
        if former is not None:
            timeout_s = self._timeout_s(name) + _RELEASE_MARGIN_S
            await self._peers.released(former.gateway, name, slot.id, timeout_s)
        await begun.wait()

    async def _begin(self, name: str, epoch: int, inheritance: Inheritance, begun: asyncio.Event) -> None:
        """The function's queue is this gateway's, too, unless the function has changed hands again."""
        while not begun.is_set():
            async with self._turns.setdefault(name, asyncio.Lock()):
                try:
                    if self.held.get(name) == epoch:
                        await self._queues.begin(name, inheritance)
                    begun.set()
                except StoreUnavailable as error:
                    log.warning("a queue is not begun yet", extra={"function": name, "reason": str(error)})
            if not begun.is_set():
                await asyncio.sleep(LOOK_S)
        inheritance.complete()

    async def _give_up(self, name: str, epoch: int) -> None:
        """Everything of it is put down, in good order, and the next owner told."""
        self.held.pop(name, None)
        slots = self._scaler.let_go(name)
        await self._queues.end(name)
        handed = await self._scaler.handed(slots) if slots else []
        self._fleet.disclaim(name)
        for slot in handed:
            self._fleet.disown(slot.id)
        doubts = self._scaler.open_doubts(slots) if slots else []
        if await self._owners.give_up(name, self.roll.me.name, epoch, doubts, handed):
            heir = self._proposed(name)
            self._elsewhere[name] = heir
            if heir != self.roll.me.name:
                self._peers.offer(heir, name)

    async def _lose(self, name: str) -> None:
        """Another owner has it, and has fenced us off: what is in our hands of it is worth nothing."""
        log.warning("a function was taken over by another gateway", extra={"function": name})
        self.held.pop(name, None)
        slots = self._scaler.let_go(name)
        await self._queues.end(name)
        self._fleet.disclaim(name)
        for slot_id in slots.left if slots else ():
            self._fleet.disown(slot_id)

    # --- ending -----------------------------------------------------------------------------------------------------

    async def retreat(self) -> bool:
        """Says that this gateway leaves, and hands over what it owns; True if there is somebody to have it.

        Raises:
            StoreUnavailable: What is left to hand over, others take when it does not beat any more.
        """
        self._over = True
        self.roll.become(replace(self.roll.me, leaving=True))
        self._beaten_s = float("-inf")
        await self._call_roll()
        others = any(name != self.roll.me.name and self._is_serving(name) for name in self.roll.living)
        await asyncio.gather(*(self._give_up_in_turn(name) for name in list(self.held)))
        return others

    async def _give_up_in_turn(self, name: str) -> None:
        async with self._at_once, self._turns.setdefault(name, asyncio.Lock()):
            epoch = self.held.get(name)
            if epoch is not None:
                await self._give_up(name, epoch)

    async def reborn(self) -> None:
        """The controller takes this life for dead: goes on as another, with what nobody has taken meanwhile.

        Raises:
            StoreUnavailable: To be called again.
        """
        life = await self._owners.new_life()
        log.warning("goes on as a new life", extra={"life": life, "former": self.roll.me.life})
        self.roll.become(replace(self.roll.me, life=life))
        self._beaten_s = float("-inf")
        self._due.update(self.held)
        self._wake.set()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("taking a function over broke", exc_info=task.exception())
