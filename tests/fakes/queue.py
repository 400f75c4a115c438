"""The queue in memory: what `RedisQueue` does, without the durability."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from okiba.core.errors import Conflict, StoreUnavailable
from okiba.core.invocation import Ending, Outcome
from okiba.ports import DeadLetter, Lease, Work


@dataclass
class _Open:
    """Work that has not ended; `token` is empty between attempts."""

    work: Work
    entry: int
    attempts: int = 0
    losses: int = 0
    leases: int = 0
    token: str = ""


@dataclass
class _Function:
    """All there is of one function; `waiting` holds request ids that were never leased, in the order accepted."""

    open: dict[str, _Open] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    delayed: dict[str, int] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)


class MemoryQueue:
    """The queues.

    Args:
        clock: Wall clock in ms.
        away: While true every call fails, as when the store is away.
        ledger: (function, event id) → `open`, `succeeded`, `dead` or `expired`.
    """

    def __init__(self, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.away = False
        self.ledger: dict[tuple[str, str], str] = {}
        self._clock = clock
        self._functions: dict[str, _Function] = {}
        self._entries = 0

    async def accept(self, works: Sequence[Work]) -> list[bool]:
        self._present()
        return [self._accept(work) for work in works]

    async def seen(self, function: str, event_ids: Sequence[str]) -> list[bool]:
        self._present()
        return [(function, event_id) in self.ledger for event_id in event_ids]

    async def lease(self, function: str, count: int, now_ms: int) -> list[Lease]:
        of = self._of(function)
        due = sorted((at, open_id) for open_id, at in of.delayed.items() if at <= now_ms)
        chosen = [open_id for _, open_id in due][:count]
        for open_id in chosen:
            del of.delayed[open_id]
        room = count - len(chosen)
        chosen += of.waiting[:room]
        del of.waiting[:room]
        return [self._lease(of.open[open_id], len(of.waiting)) for open_id in chosen]

    async def payload(self, work: Work) -> bytes:
        self._present()
        return work.payload

    async def succeed(self, lease: Lease, outcome: Outcome) -> bool:
        return self._settle(lease, "succeeded") is not None

    async def retry(self, lease: Lease, outcome: Outcome, due_ms: int, *, lost: bool, gives_back: bool) -> bool:
        of, held = self._held(lease)
        if held is None:
            return False
        held.token = ""
        held.losses += lost
        held.attempts -= gives_back
        of.delayed[lease.work.request_id] = due_ms
        return True

    async def bury(self, lease: Lease, outcome: Outcome, reason: str) -> bool:
        held = self._settle(lease, "expired" if reason == "EventAgeExceeded" else "dead")
        if held is None:
            return False
        attempts = lease.attempt - (outcome.ending is Ending.PLATFORM_FAILURE)
        losses = lease.losses + outcome.lost_slot
        self._entries += 1
        letter = DeadLetter(f"{self._entries}-0", held.work, reason, attempts, losses, outcome.payload, self._clock())
        self._of(lease.work.function).dead.append(letter)
        return True

    async def recover(self, function: str, held: Collection[str] = ()) -> list[Lease]:
        of = self._of(function)
        leased = [each for each in of.open.values() if each.token and each.work.request_id not in held]
        for each in leased:
            each.attempts -= 1
        return [self._lease(each, len(of.waiting)) for each in leased]

    async def depths(self, functions: Sequence[str]) -> dict[str, tuple[int, int]]:
        return {function: self._depth(self._of(function)) for function in functions}

    async def dead_letters(self, function: str, after: str, count: int) -> list[DeadLetter]:
        dead = self._of(function).dead
        behind = int(after.partition("-")[0]) if after else 0
        return [letter for letter in dead if int(letter.id.partition("-")[0]) > behind][:count]

    async def dead_letter(self, function: str, letter_id: str) -> DeadLetter | None:
        return next((letter for letter in self._of(function).dead if letter.id == letter_id), None)

    async def redrive(self, function: str, letter_id: str, now_ms: int) -> bool:
        of = self._of(function)
        letter = next((each for each in of.dead if each.id == letter_id), None)
        if letter is None:
            return False
        work = replace(letter.work, accepted_ms=now_ms)
        if work.request_id in of.open:
            raise Conflict(f"the event of dead letter {letter_id} is being tried already")
        of.dead.remove(letter)
        self.ledger.pop((function, work.event_id), None)
        return self._accept(work)

    async def purge(self, function: str, letter_id: str) -> bool:
        of = self._of(function)
        kept = [each for each in of.dead if each.id != letter_id]
        gone, of.dead = len(of.dead) - len(kept), kept
        return bool(gone)

    async def dead_counts(self, functions: Sequence[str]) -> dict[str, int]:
        return {function: len(self._of(function).dead) for function in functions}

    async def forget(self, function: str) -> int:
        leases = [*await self.recover(function), *await self.lease(function, 2**31, 2**53)]
        for lease in leases:
            await self.bury(lease, Outcome(Ending.PLATFORM_FAILURE, b"{}"), "FunctionDeleted")
        return len(leases)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _accept(self, work: Work) -> bool:
        of = self._of(work.function)
        if (work.function, work.event_id) in self.ledger:
            return False
        self.ledger[work.function, work.event_id] = "open"
        self._entries += 1
        of.open[work.request_id] = _Open(work, self._entries)
        of.waiting.append(work.request_id)
        return True

    def _lease(self, held: _Open, waiting: int) -> Lease:
        held.attempts += 1
        held.leases += 1
        held.token = f"{held.entry}-0/{held.leases}"
        return Lease(held.work, held.attempts, held.losses, held.token, waiting)

    def _held(self, lease: Lease) -> tuple[_Function, _Open | None]:
        of = self._of(lease.work.function)
        held = of.open.get(lease.work.request_id)
        return of, held if held is not None and lease.token and held.token == lease.token else None

    def _settle(self, lease: Lease, end: str) -> _Open | None:
        of, held = self._held(lease)
        if held is not None:
            del of.open[lease.work.request_id]
            self.ledger[lease.work.function, lease.work.event_id] = end
        return held

    def _depth(self, of: _Function) -> tuple[int, int]:
        idle = [*of.waiting, *of.delayed]
        accepted = [of.open[open_id].work.accepted_ms for open_id in idle]
        return len(idle), max(self._clock() - min(accepted), 0) if accepted else 0

    def _of(self, function: str) -> _Function:
        self._present()
        return self._functions.setdefault(function, _Function())

    def _present(self) -> None:
        if self.away:
            raise StoreUnavailable("the queue is away")
