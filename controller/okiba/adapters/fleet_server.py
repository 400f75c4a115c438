"""The fleet link, the controller's end: deals each warm slot to one gateway and tells all who has become whose.

Speaks for a `SlotKeeper`, which makes and ends the slots. What a gateway holds is its own until it gives it back, or is
gone: then its warm slots are reaped and not dealt again, for it may live, stopped, and still put one to use.

    made ──▶ dealt to one gateway ──▶ taken (told to all) ──▶ gone (told to all)
                 │ ▲ returned                                   ▲
                 ▼ │                                            │
              undealt            dealt to a dead gateway ──▶ doomed: an answer to `dead` names these
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from okiba.adapters.fleet_wire import HELLO_S, LONGEST_BACKLOG, Message, fleet_token, line, listen, read, slot_of
from okiba.core.slot_kind import pod_of
from okiba.ports import SlotAddress

log = logging.getLogger(__name__)

RETURN_S: Final = 1.5
"""How long a gateway whose link broke may take to come back before its warm slots are reaped (it tries again within
20 ms, and then less often)."""

CLAIM_S: Final = 5.0
"""How long warm slots that an earlier controller dealt wait for the gateway that holds them to say so."""

READ_S: Final = 0.3
"""How long the end of what a dead gateway has said may take to be read: it may have taken slots just before."""


class SlotKeeper(Protocol):
    """Who makes and ends slots, as the server needs it; everything may be told twice."""

    def slots(self) -> Sequence[SlotAddress]:
        """Every slot that may be dealt, or has been. Those from before this controller are there when `run` begins."""
        ...

    def took(self, slot_id: str, function: str, revision: str) -> None:
        """The slot becomes this function's; the keeper says `gone` of one that it does not know."""
        ...

    def want(self, kind: str, count: int, each: Sequence[int] = ()) -> None:
        """So many calls wait for slots of this kind, at all gateways together.

        Args:
            each: The same per function.
        """
        ...

    def retire(self, slot_id: str) -> None:
        """The slot is to end; the keeper says `gone` when it has, also of one that it does not know."""
        ...


@dataclass(eq=False)
class _Session:
    """A gateway that is connected.

    Args:
        listening: It has said all that it had to say of before.
        wants: Callers who wait, by kind: how many, and how many a function.
    """

    name: str
    life: int
    writer: asyncio.StreamWriter
    listening: bool = False
    wants: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, message: Message) -> None:
        if self.writer.is_closing():
            return
        self.writer.write(line(message))
        if self.writer.transport.get_write_buffer_size() > LONGEST_BACKLOG:
            self.writer.transport.abort()

    def lacks(self, kind: str) -> int:
        return self.wants.get(kind, (0, ()))[0]


class FleetServer:
    """The controller's end, for any number of gateways."""

    def __init__(self, address: str, platform_key: str, keeper: SlotKeeper) -> None:
        self._address = address
        self._token = fleet_token(platform_key)
        self._keeper = keeper
        self._sessions: dict[str, _Session] = {}
        self._dead: dict[str, int] = {}  # gateway → its last life that is known to be over
        self._holders: dict[str, tuple[str, int]] = {}  # warm slot → gateway and life
        self._undealt: dict[str, SlotAddress] = {}
        self._orphans: dict[str, SlotAddress] = {}  # warm, dealt by an earlier controller to nobody knows whom
        self._doomed: set[str] = set()
        self._asked_back: dict[str, int] = {}  # pod → how many slots its holder was asked to return
        self._taken: dict[str, SlotAddress] = {}
        self._epochs: dict[str, int] = {}
        self._warm: dict[str, SlotAddress] = {}
        self._wanted: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- for the keeper -----------------------------------------------------------------------------------------------

    def deal(self, slot: SlotAddress) -> None:
        """A slot has been made: a gateway gets it, the one whose callers lack most, or else who has fewest."""
        if slot.function:
            self._tell_taken(slot)
            return
        self._warm[slot.id] = slot
        session = self._next_holder(slot)
        if session is None:
            self._undealt[slot.id] = slot
        else:
            self._give(slot, session)

    def gone(self, slot_id: str, reason: str) -> None:
        """Tells all gateways that a slot's processes have ended."""
        for known in (self._holders, self._undealt, self._orphans, self._taken, self._epochs, self._warm):
            known.pop(slot_id, None)
        self._doomed.discard(slot_id)
        self._tell({"gone": slot_id, "reason": reason})

    async def run(self) -> None:
        """Serves gateways; for ever, until cancelled."""
        for slot in self._keeper.slots():
            if not slot.function and slot.id not in self._warm:
                self._warm[slot.id] = self._orphans[slot.id] = slot
        reaping = asyncio.get_running_loop().call_later(CLAIM_S, self._reap_orphans)
        server = await listen(self._address, self._serve)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            reaping.cancel()
            for task in self._tasks:
                task.cancel()
            server.close()
            for session in self._sessions.values():
                session.writer.close()

    # --- a gateway's session ------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session: _Session | None = None
        try:
            async with asyncio.timeout(HELLO_S):
                hello = await read(reader)
            session = self._admitted(hello, writer) if hello else None  # empty: somebody asked whether we listen
            while session is not None and (message := await read(reader)):
                self._heard(session, message)
        except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            log.warning("a gateway's connection ended badly", extra={"reason": repr(error)})
        finally:
            if session is not None:
                self._left(session)
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()

    def _admitted(self, hello: Message, writer: asyncio.StreamWriter) -> _Session | None:
        name, token, life = hello.get("hello"), hello.get("token"), hello.get("epoch")
        if not isinstance(token, str) or not hmac.compare_digest(token.encode(), self._token.encode()):
            log.warning("a gateway was refused: wrong token")
            return None
        if not isinstance(name, str) or not isinstance(life, int):
            raise ValueError(f"a hello has a name and an epoch, got {name!r} and {life!r}")  # noqa: TRY004 (of the peer)
        former = self._sessions.get(name)
        newest = max(self._dead.get(name, -1) + 1, former.life if former else -1)
        if life < newest:
            log.warning("a gateway was refused: that life is over", extra={"gateway": name, "epoch": life})
            writer.write(line({"refused": "this life is over", "newest": newest}))
            return None
        session = _Session(name, life, writer)
        if former is not None:
            former.writer.close()
        self._sessions[name] = session
        self._forget_wants(former)
        self._bury(name, life - 1)
        return session

    def _heard(self, session: _Session, message: Message) -> None:
        if self._sessions.get(session.name) is not session and "took" not in message:
            return  # the last words of one that is taken for dead: what it took counts, what it wants does not
        if "took" in message:
            self._took(session, message)
        elif "want" in message:
            session.wants[message["want"]] = message["count"], tuple(message.get("each", ()))
            self._want(message["want"])
        elif "retire" in message:
            self._retire(session, message["retire"], message.get("epoch", 0))
        elif "holds" in message:
            self._holds(session, message["holds"])
        elif "returned" in message:
            self._returned(session, message["returned"], message.get("pod", ""))
        elif "dead" in message:
            self._spawn(self._declare_dead(session, message["dead"], message["life"]))
        elif "listening" in message:
            self._begin(session)
        elif "bye" in message:
            self._dead[session.name] = max(session.life, self._dead.get(session.name, -1))

    def _begin(self, session: _Session) -> None:
        """Tells a gateway everything that concerns it, and deals it what nobody has."""
        known = {slot.id: slot for slot in self._keeper.slots() if slot.function} | self._taken
        for slot in known.values():
            session.say({"slot": asdict(slot)})
        for slot_id, holder in self._holders.items():
            if holder == (session.name, session.life):
                session.say({"slot": asdict(self._warm[slot_id])})
        session.listening = True
        session.began.set()
        self._deal_undealt()
        session.say({"synced": True})

    def _left(self, session: _Session) -> None:
        session.ended.set()
        if self._sessions.get(session.name) is not session:
            return
        del self._sessions[session.name]
        self._forget_wants(session)
        if self._dead.get(session.name, -1) >= session.life:  # it said goodbye
            self._bury(session.name, session.life)
        else:
            asyncio.get_running_loop().call_later(RETURN_S, self._bury_if_away, session.name, session.life)

    def _bury_if_away(self, name: str, life: int) -> None:
        session = self._sessions.get(name)
        if session is None or session.life > life:
            self._bury(name, life)

    # --- what gateways say --------------------------------------------------------------------------------------------

    def _took(self, session: _Session, message: Message) -> None:
        slot_id, epoch = message["took"], message.get("epoch", 0)
        if epoch < self._epochs.get(slot_id, 0):
            return  # a former owner repeats what has been overtaken
        self._epochs[slot_id] = epoch
        self._holders.pop(slot_id, None)
        self._orphans.pop(slot_id, None)
        self._warm.pop(slot_id, None)
        slot = slot_of(message["slot"])
        self._taken[slot_id] = slot
        self._tell_taken(slot, but=session)
        self._keeper.took(slot_id, slot.function, slot.revision)

    def _retire(self, session: _Session, slot_id: str, epoch: int) -> None:
        holder = self._holders.get(slot_id, (session.name, session.life))
        if holder == (session.name, session.life) and epoch >= self._epochs.get(slot_id, 0):
            self._keeper.retire(slot_id)

    def _holds(self, session: _Session, slots: Sequence[str]) -> None:
        for slot_id in slots:
            orphan = self._orphans.pop(slot_id, None)
            if orphan is not None:
                self._holders[slot_id] = session.name, session.life
            elif slot_id not in self._warm and slot_id not in self._doomed:
                session.say({"gone": slot_id, "reason": "it ended while the controller was away"})
            elif self._holders.get(slot_id) != (session.name, session.life):
                session.say({"lost": slot_id})

    def _returned(self, session: _Session, slots: Sequence[str], pod: str) -> None:
        self._asked_back.pop(pod, None)
        for slot_id in slots:
            if self._holders.get(slot_id) == (session.name, session.life):
                del self._holders[slot_id]
                self._undealt[slot_id] = self._warm[slot_id]
        self._deal_undealt(but=None if pod else session)

    # --- dealing ------------------------------------------------------------------------------------------------------

    def _deal_undealt(self, but: _Session | None = None) -> None:
        for slot in list(self._undealt.values()):
            session = self._next_holder(slot, but)
            if session is not None:
                del self._undealt[slot.id]
                self._give(slot, session)

    def _next_holder(self, slot: SlotAddress, but: _Session | None = None) -> _Session | None:
        """All slots of a pod go to one gateway, for a pod belongs to one function."""
        sessions = [session for session in self._sessions.values() if session.listening and session is not but]
        pod = pod_of(slot.id)
        for neighbour, (name, life) in self._holders.items() if pod != slot.id else ():
            if pod_of(neighbour) == pod:
                return next((session for session in sessions if (session.name, session.life) == (name, life)), None)
        held = Counter(holder for slot_id, holder in self._holders.items() if self._warm[slot_id].kind == slot.kind)
        return max(
            sessions,
            key=lambda session: (session.lacks(slot.kind), -held[session.name, session.life]),
            default=None,
        )

    def _give(self, slot: SlotAddress, session: _Session) -> None:
        self._holders[slot.id] = session.name, session.life
        count, each = session.wants.get(slot.kind, (0, ()))
        if count > 0:  # one caller less, until the gateway says how many there are now
            session.wants[slot.kind] = count - 1, each
        session.say({"slot": asdict(slot)})

    def _want(self, kind: str) -> None:
        """Tells the keeper how many wait altogether; those who lack slots get some that others have to spare first."""
        self._wanted.add(kind)
        lacking = sum(session.lacks(kind) for session in self._sessions.values())
        each = [count for session in self._sessions.values() for count in session.wants.get(kind, (0, ()))[1]]
        if lacking and len(self._sessions) > 1:
            self._ask_back(kind, lacking)
        self._keeper.want(kind, lacking, each)

    def _ask_back(self, kind: str, lacking: int) -> None:
        spare: dict[str, list[str]] = {}
        for slot_id, (name, _) in self._holders.items():
            session = self._sessions.get(name)
            if session and not session.lacks(kind) and self._warm[slot_id].kind == kind:
                spare.setdefault(pod_of(slot_id), []).append(name)
        missing = lacking - sum(self._asked_back.values())
        for pod, holders in spare.items():
            if missing <= 0:
                return
            if pod not in self._asked_back:
                missing -= len(holders)
                self._asked_back[pod] = len(holders)
                self._sessions[holders[0]].say({"return": pod})

    # --- the dead -----------------------------------------------------------------------------------------------------

    async def _declare_dead(self, by: _Session, name: str, life: int) -> None:
        """A new owner says that a gateway is dead: from now on it is, and its warm slots end before others are used."""
        self._dead[name] = max(life, self._dead.get(name, -1))
        session = self._sessions.get(name)
        if session is not None and session.life <= life:
            del self._sessions[name]
            self._forget_wants(session)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(session.ended.wait(), READ_S)
            session.writer.close()
        self._bury(name, life)
        await by.began.wait()  # whatever was taken has to be told before
        by.say({"dead": name, "life": life, "slots": sorted(self._doomed | set(self._orphans))})

    def _bury(self, name: str, life: int) -> None:
        """Ends the warm slots of lives that are over."""
        for slot_id in [each for each, (holder, of) in self._holders.items() if holder == name and of <= life]:
            self._doom(slot_id)

    def _reap_orphans(self) -> None:
        for slot_id in list(self._orphans):
            self._doom(slot_id)

    def _doom(self, slot_id: str) -> None:
        self._holders.pop(slot_id, None)
        self._orphans.pop(slot_id, None)
        self._asked_back.pop(pod_of(slot_id), None)
        self._doomed.add(slot_id)
        self._keeper.retire(slot_id)

    def _forget_wants(self, session: _Session | None) -> None:
        """A gateway's callers are gone with it."""
        if session is not None:
            session.wants.clear()
        for kind in self._wanted:
            self._want(kind)

    # --- saying -------------------------------------------------------------------------------------------------------

    def _tell_taken(self, slot: SlotAddress, but: _Session | None = None) -> None:
        self._tell({"slot": asdict(slot)}, but)

    def _tell(self, message: Message, but: _Session | None = None) -> None:
        for session in list(self._sessions.values()):
            if session is not but:
                session.say(message)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
