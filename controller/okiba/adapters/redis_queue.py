"""Every function's queue, ledger, retries and dead letters in Redis; fulfils `ports.Queue`, one script an arrow.

Time comes in by argument: it decides about retries' due times alone, which gateways with clocks apart can disagree on
without harm. What is thrown away by age (old dead letters) goes by Redis's own clock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from okiba.adapters.redis_connection import Argument, entry_id
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.s3_payloads import S3Payloads
from okiba.core.errors import Conflict, StoreUnavailable
from okiba.core.invocation import Ending, Outcome
from okiba.core.payload import is_kept_apart, payload_key, reference_of
from okiba.ports import DeadLetter, Lease, Work

REMEMBER_INVOKE_MS: Final = 3_600_000
"""How long a settled call is remembered: its id is its own, so nobody tells it twice but a sender's retry."""

KEEP_DEAD_MS: Final = 14 * 86_400_000
"""How long dead letters stay; the longest that SQS keeps a message."""

KEEP_FORGOTTEN_MS: Final = 7 * 86_400_000
"""How long they stay after their function is gone."""

ACCEPT_BATCH: Final = 64
ACCEPT_BYTES: Final = 1024 * 1024
"""Most that one script call takes, so that Redis is not held up for others (measured: 64 small ones take 3 ms)."""

SEEN_BATCH: Final = 500
"""Events that one script call looks up; a page of a listing has a thousand."""

ANY: Final = 0
"""No function's epoch: whoever owns it, nothing is asked."""

_OPEN_ALREADY: Final = 2
_FORGET_BATCH: Final = 100
_FOREVER_MS: Final = 2**53
_FORGOTTEN: Final = Outcome(Ending.PLATFORM_FAILURE, b"{}")


class RedisQueue:
    """The queues as one gateway sees them.

    Args:
        consumer: Names this gateway.
        dedupe_ms: How long a settled bucket event is remembered.
        payloads: Where large payloads are kept; None: in Redis, as the small ones.
        epoch: In which this gateway owns a function; `ANY` where nobody else could.
    """

    def __init__(
        self,
        link: RedisLink,
        tenant: str,
        consumer: str,
        dedupe_ms: int,
        payloads: S3Payloads | None = None,
        epoch: Callable[[str], int] = lambda _function: ANY,
    ) -> None:
        self._link = link
        self._tenant = tenant
        self._consumer = consumer
        self._dedupe_ms = dedupe_ms
        self._payloads = payloads
        self._epoch = epoch

    async def accept(self, works: Sequence[Work]) -> list[bool]:
        """Durable when this returns; False where the ledger has seen the event before (and nothing was added)."""
        if self._payloads is not None and any(is_kept_apart(work.payload) for work in works):
            works = await asyncio.gather(*(self._referring(work, self._payloads) for work in works))
        if len(works) == 1:  # a call: the hot path
            return [bool(answer) for answer in await self._accept(works)]
        taken = [False] * len(works)
        batches = list(_batches(works))
        answers = await asyncio.gather(*(self._accept([works[index] for index in batch]) for batch in batches))
        for batch, told in zip(batches, answers, strict=True):
            for index, answer in zip(batch, told, strict=True):
                taken[index] = bool(answer)
        return taken

    async def seen(self, function: str, event_ids: Sequence[str]) -> list[bool]:
        """Which of these events the ledger has: open, or ended and not forgotten yet."""
        batches = [event_ids[start : start + SEEN_BATCH] for start in range(0, len(event_ids), SEEN_BATCH)]
        answers = await asyncio.gather(*(self._script("seen", function, *batch) for batch in batches))
        return [bool(answer) for batch in answers for answer in batch]

    async def lease(self, function: str, count: int, now_ms: int) -> list[Lease]:
        """Up to `count` pieces of waiting work, retries that are due first; none once another gateway is the owner."""
        return await self._lease(function, count, now_ms, self._epoch(function))

    async def _lease(self, function: str, count: int, now_ms: int, epoch: int) -> list[Lease]:
        waiting, *works = await self._script("lease", function, self._consumer, count, now_ms, epoch)
        return [_leased(function, work, waiting) for work in works]

    async def succeed(self, lease: Lease, outcome: Outcome) -> bool:  # noqa: ARG002  # nobody asks for results yet
        """The event's one end: succeeded. False when the lease was void."""
        work = lease.work
        settled = await self._script(
            "succeed", work.function, work.request_id, lease.token, work.event_id, self._remember_ms(work)
        )
        if settled and self._payloads is not None and (reference := reference_of(work.payload)):
            with contextlib.suppress(StoreUnavailable):  # swept later
                await self._payloads.drop(reference)
        return bool(settled)

    async def retry(
        self,
        lease: Lease,
        outcome: Outcome,  # noqa: ARG002  # only the last error is kept, with the dead letter
        due_ms: int,
        *,
        lost: bool,
        gives_back: bool,
    ) -> bool:
        """Back into the queue, not before `due_ms`; `gives_back` when the attempt does not count."""
        work = lease.work
        args = (work.request_id, lease.token, due_ms, int(lost), int(gives_back))
        return bool(await self._script("retry", work.function, *args))

    async def bury(self, lease: Lease, outcome: Outcome, reason: str) -> bool:
        """The event's one end: dead-lettered, with everything needed to run it again."""
        work = lease.work
        # An attempt that never reached the function, or broke with its slot, is none of the function's attempts.
        attempts = lease.attempt - (outcome.ending is Ending.PLATFORM_FAILURE)
        ledger = (work.event_id, self._remember_ms(work), "expired" if reason == "EventAgeExceeded" else "dead")
        told = (reason, attempts, lease.losses + outcome.lost_slot, outcome.payload)
        args = (work.request_id, lease.token, *ledger, *told, KEEP_DEAD_MS)
        return bool(await self._script("bury", work.function, *args))

    async def recover(self, function: str, held: Collection[str] = ()) -> list[Lease]:
        """What is leased and in nobody's hand, leased again to this gateway at no cost to it.

        Nothing once another gateway is the owner: it has all of that in its hand.
        """
        return await self._recover(function, held, self._epoch(function))

    async def _recover(self, function: str, held: Collection[str], epoch: int) -> list[Lease]:
        cursor, total = b"0-0", 0
        while True:
            cursor, count = await self._script("recover", function, self._consumer, cursor, epoch, *held)
            total += count
            if cursor == b"0-0":
                return await self._lease(function, total, 0, epoch) if total else []

    async def payload(self, work: Work) -> bytes:
        """The work's payload, wherever it is kept.

        Raises:
            NotFound: It was removed from the object store by somebody else.
            StoreUnavailable: The object store is away.
        """
        reference = reference_of(work.payload)
        if reference is None or self._payloads is None:
            return work.payload
        return await self._payloads.fetch(reference)

    async def depths(self, functions: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Per function (waiting and delayed, age in ms of the oldest)."""
        depths = await asyncio.gather(*(self._script("depths", function) for function in functions))
        return {function: (waiting, age_ms) for function, (waiting, age_ms) in zip(functions, depths, strict=True)}

    async def retries(self, functions: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Per function (attempts that wait for their time, wall clock in ms of when the first is due; 0: none)."""
        told = await asyncio.gather(*(self._retries(self._key(function, "delayed")) for function in functions))
        return dict(zip(functions, told, strict=True))

    async def _retries(self, delayed: str) -> tuple[int, int]:
        first = await self._link.call("ZRANGE", delayed, 0, 0, "WITHSCORES")
        return (await self._link.call("ZCARD", delayed), int(float(first[1]))) if first else (0, 0)

    # --- dead letters -------------------------------------------------------------------------------------------------

    async def dead_letters(self, function: str, after: str, count: int) -> list[DeadLetter]:
        """Oldest first, from the one behind `after` (empty: from the beginning).

        Raises:
            InvalidParameter: `after` is no id of a dead letter.
        """
        start = f"({entry_id(after)}" if after else "-"
        entries = await self._link.call("XRANGE", self._key(function, "dead"), start, "+", "COUNT", count)
        return [_dead_letter(function, entry) for entry in entries]

    async def dead_letter(self, function: str, letter_id: str) -> DeadLetter | None:
        """One of them.

        Raises:
            InvalidParameter: `letter_id` is no id of a dead letter.
        """
        entry = entry_id(letter_id)
        entries = await self._link.call("XRANGE", self._key(function, "dead"), entry, entry)
        return _dead_letter(function, entries[0]) if entries else None

    async def redrive(self, function: str, letter_id: str, now_ms: int) -> bool:
        """The dead letter's event is tried again, from the beginning and as the same event; False: no such letter.

        Raises:
            Conflict: The event is being tried already: the store told of it again after the ledger had forgotten it.
            InvalidParameter: `letter_id` is no id of a dead letter.
        """
        answer = await self._script("redrive", function, entry_id(letter_id), now_ms)
        if answer == _OPEN_ALREADY:
            raise Conflict(f"the event of dead letter {letter_id} is being tried already")
        return bool(answer)

    async def purge(self, function: str, letter_id: str) -> bool:
        """The dead letter is gone for good; False: there was none.

        Raises:
            InvalidParameter: `letter_id` is no id of a dead letter.
        """
        return bool(await self._link.call("XDEL", self._key(function, "dead"), entry_id(letter_id)))

    async def dead_counts(self, functions: Sequence[str]) -> dict[str, int]:
        """Dead letters kept, per function."""
        counts = await asyncio.gather(*(self._link.call("XLEN", self._key(name, "dead")) for name in functions))
        return dict(zip(functions, counts, strict=True))

    async def forget(self, function: str) -> int:
        """The function is gone: all its open work ends as dead letters (`FunctionDeleted`), which stay for 7 days."""
        total, leases = 0, await self._recover(function, (), ANY)
        while leases or (leases := await self._lease(function, _FORGET_BATCH, _FOREVER_MS, ANY)):
            total += sum(await asyncio.gather(*(self.bury(lease, _FORGOTTEN, "FunctionDeleted") for lease in leases)))
            leases = []
        await self._script("forget", function, KEEP_FORGOTTEN_MS)
        return total

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _referring(self, work: Work, payloads: S3Payloads) -> Work:
        """The work with its payload in the object store, if that is where it belongs."""
        if not is_kept_apart(work.payload):
            return work
        key = payload_key(self._tenant, work.function, work.request_id)
        reference = await payloads.keep(key, work.payload)
        return replace(work, payload=reference.encoded())

    async def _accept(self, works: Sequence[Work]) -> Sequence[int]:
        """1 for each that was taken, 0 for each seen before; all are of one function."""
        args: list[Argument] = []
        for work in works:
            args += (work.event_id, work.request_id, work.payload, work.source)
            args += (work.accepted_ms, work.trace_id, work.client_context)
        answers: Sequence[int] = await self._script("accept", works[0].function, *args)
        return answers

    def _script(self, name: str, function: str, *args: Argument) -> Any:
        return self._link.script(f"queue_{name}", (f"okiba:{{{self._tenant}/{function}}}",), args)

    def _key(self, function: str, part: str) -> str:
        return f"okiba:{{{self._tenant}/{function}}}:{part}"

    def _remember_ms(self, work: Work) -> int:
        return REMEMBER_INVOKE_MS if work.source == "invoke" else self._dedupe_ms


def _batches(works: Sequence[Work]) -> Iterator[list[int]]:
    """Indexes of works that go into one script call: of one function, not too many, not too large."""
    open_batches: dict[str, tuple[list[int], int]] = {}
    for index, work in enumerate(works):
        batch, size = open_batches.get(work.function, ([], 0))
        if batch and (len(batch) >= ACCEPT_BATCH or size + len(work.payload) > ACCEPT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(index)
        open_batches[work.function] = (batch, size + len(work.payload))
    yield from (batch for batch, _ in open_batches.values())


def _leased(function: str, work: list[Any], waiting: int) -> Lease:
    request, event, payload, source, accepted, trace, context, losses, attempt, token = work
    described = _work(function, event, request, payload, source, accepted, trace, context)
    return Lease(described, attempt, int(losses), token.decode(), waiting)


def _work(function: str, event: bytes, request: bytes, payload: bytes, *rest: bytes) -> Work:
    source, accepted, trace, context = rest
    return Work(
        function, event.decode(), request.decode(), payload, source.decode(), int(accepted), trace.decode(), context
    )


def _dead_letter(function: str, entry: Any) -> DeadLetter:
    values: Iterable[bytes] = entry[1][1::2]
    request, event, payload, source, accepted, trace, context, reason, attempts, losses, error, died = values
    work = _work(function, event, request, payload, source, accepted, trace, context)
    return DeadLetter(entry[0].decode(), work, reason.decode(), int(attempts), int(losses), error, int(died))
