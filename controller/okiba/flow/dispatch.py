"""Hops 4 and 5: an invocation and a slot become an outcome; an asynchronous one is settled.

`Dispatcher.call` is the one way a function runs. A synchronous caller awaits it and nothing is written anywhere; a
`Drain` per function leases work from its queue, runs it the same way and settles it by one script.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from okiba.core.errors import NoSlot, NotFound, NotOwner, StoreUnavailable, Throttled
from okiba.core.function import Function
from okiba.core.invocation import Ending, Invocation, Outcome
from okiba.core.retry import Bury, Retry, RetryPolicy, after
from okiba.flow.inherit import Inheritance
from okiba.flow.scale import Scaler
from okiba.ports import Lease, Queue, Slot

log = logging.getLogger(__name__)

_STORE_PAUSE_S = 0.5
_LATE_S = 10.0
"""How long after a lost answer a command may still be carried out; leases are looked through once more then."""
_ADOPTION_S = 30.0
"""How long inherited work waits for word of the former owner's slots."""
_RECENT = 100


class Ran(NamedTuple):
    """One invocation that this gateway ran, for `recent`: wall clock in ms.

    Args:
        accepted_ms: When Okiba first had it: the event's arrival, or the call's.
        slot_ready_ms: When it got its slot; `cold` says that the slot was made for it.
    """

    request_id: str
    source: str
    accepted_ms: float
    slot_ready_ms: float
    finished_ms: float
    duration_us: int
    init_us: int | None
    ending: str
    slot: str


Observer = Callable[[Function, Ran, Outcome], None]


class Dispatcher:
    """Runs invocations in slots.

    Args:
        clock: Wall clock in seconds.
        observe: Told of each invocation that ran; metrics hang here.
    """

    def __init__(self, scaler: Scaler, clock: Callable[[], float], observe: Observer) -> None:
        self._scaler = scaler
        self._clock = clock
        self._observe = observe
        self._recent: dict[str, deque[Ran]] = {}

    async def call(
        self, function: Function, invocation: Invocation, accepted_s: float, source: str, wait_ms: int = 0
    ) -> Outcome:
        """What came of the invocation.

        Args:
            wait_ms: How long it may wait for a slot; 0: as long as calls usually may.

        Raises:
            Throttled: The function's concurrency is used up (synchronous calls only).
            NoSlot: No slot became free in time.
            NotOwner: The function is another gateway's, or has become so while the call waited; it did not run.
        """
        begun_s = self._clock()
        ready_s, outcome = await self._try(function, invocation, wait_ms)
        if outcome.unstarted:
            left_ms = self._scaler.wait_ms(wait_ms) - int((self._clock() - begun_s) * 1000)
            now = self._scaler.current(function.name)
            if left_ms > 0 and now is not None:
                ready_s, outcome = await self._try(now, invocation, left_ms)
            # Whose slots end before they have the work is suspect itself: it may count towards poison.
            outcome = outcome._replace(lost_slot=outcome.lost_slot or outcome.unstarted)
        self._record(function, invocation, outcome, accepted_s, ready_s, source)
        return outcome

    async def _try(self, function: Function, invocation: Invocation, wait_ms: int) -> tuple[float, Outcome]:
        """When there was a slot, by the wall clock, and what came of it there."""
        got: Slot | Outcome | None = self._scaler.acquire_now(function, invocation.asynchronous)
        if got is None:
            got = await self._scaler.acquire(function, invocation.asynchronous, wait_ms)
        ready_s = self._clock()
        if isinstance(got, Outcome):
            return ready_s, _addressed(got, invocation.request_id)
        return ready_s, await self._in_slot(function, got, invocation)

    async def _in_slot(self, function: Function, slot: Slot, invocation: Invocation) -> Outcome:
        duration_us = 0
        try:
            outcome = await slot.invoke(invocation, function.timeout_s * 1000)
            duration_us = outcome.duration_us
        finally:
            self._scaler.release(slot, invocation.asynchronous, duration_us)
        return outcome

    def _record(
        self,
        function: Function,
        invocation: Invocation,
        outcome: Outcome,
        accepted_s: float,
        ready_s: float,
        source: str,
    ) -> None:
        if self._scaler.current(function.name) is None:
            return  # deleted meanwhile: nobody would take its numbers away again
        ran = Ran(
            invocation.request_id,
            source,
            accepted_s * 1000,
            ready_s * 1000,
            self._clock() * 1000,
            outcome.duration_us,
            outcome.init_us,
            outcome.ending,
            outcome.slot,
        )
        recent = self._recent.get(function.name)
        if recent is None:
            recent = self._recent[function.name] = deque(maxlen=_RECENT)
        recent.append(ran)
        self._observe(function, ran, outcome)

    def recent(self, name: str) -> list[Ran]:
        """The last hundred invocations of a function that ran here, oldest first."""
        return list(self._recent.get(name, ()))

    def forget(self, name: str) -> None:
        """The function is gone, and what ran of it is of no use any more."""
        self._recent.pop(name, None)


class Drain:
    """Empties one function's queue: leases, runs, settles, until told to stop.

    Args:
        function: The function as it is now; None once it is deleted.
        arn: ARN of the function, for its context object.
        inheritance: What is known of slots that a former owner left.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[str], Function | None],
        arn: Callable[[str], str],
        queue: Queue,
        dispatcher: Dispatcher,
        scaler: Scaler,
        policy: RetryPolicy,
        clock: Callable[[], float],
        inheritance: Inheritance,
    ) -> None:
        self._name = name
        self._function = function
        self._arn = arn
        self._queue = queue
        self._dispatcher = dispatcher
        self._scaler = scaler
        self._policy = policy
        self._clock = clock
        self._wake = asyncio.Event()
        self._leased: set[asyncio.Task[None]] = set()
        self._held: set[str] = set()
        self._doubtful = False
        self._doubts_left = 0
        self._inherited: dict[str, Lease] = {}
        self._inheritance = inheritance

    def wake(self) -> None:
        """There may be work."""
        self._wake.set()

    async def run(self) -> None:
        """Runs for ever; cancelling it leaves what is leased to the next owner's `recover`."""
        while True:
            try:
                await self._lease()
            except StoreUnavailable as error:
                log.warning("queue unavailable", extra={"function": self._name, "reason": str(error)})
                self._doubts_left = 1
                self._doubt()
                await asyncio.sleep(_STORE_PAUSE_S)

    async def abandon(self) -> None:
        """Nothing more is done for what is leased: the next owner leases it again and collects what has come of it."""
        for task in list(self._leased):
            task.cancel()
        await asyncio.gather(*self._leased, return_exceptions=True)

    def _doubt(self) -> None:
        """A lease whose answer never came may have been carried out: nobody has what it took in hand then."""
        self._doubtful = True
        self._wake.set()

    async def _take_up(self) -> None:
        """Takes what is leased and in nobody's hand."""
        leases = await self._queue.recover(self._name, [*self._held, *self._inherited])
        self._doubtful = False
        if self._doubts_left > 0:
            # Once more later: what a Redis that was stopped had not read yet, it carries out when it goes on.
            self._doubts_left -= 1
            asyncio.get_running_loop().call_later(_LATE_S, self._doubt)
        if leases:
            log.info("leases taken up", extra={"function": self._name, "count": len(leases)})
            self._begin(leases)

    async def _lease(self) -> None:
        self._wake.clear()
        if self._doubtful:
            await self._take_up()
        function = self._function(self._name)
        room = self._scaler.room_for_backlog(function, len(self._leased)) if function else 0
        if function is not None and function.reserved_concurrency == 0:
            room = 1 - len(self._leased)  # so that what waits is buried at once, as Lambda does
        if function is not None and function.paused:
            room = 0
        leases = await self._queue.lease(self._name, room, self._now_ms()) if room > 0 else []
        self._begin(leases)
        if not leases or len(leases) >= room:
            await self._wake.wait()

    def _begin(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self._held.add(lease.work.request_id)
            task = asyncio.get_running_loop().create_task(self._attempt(lease))
            self._leased.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._leased.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("an attempt broke", exc_info=task.exception(), extra={"function": self._name})

    async def _attempt(self, lease: Lease) -> None:
        try:
            function = self._function(self._name)
            if function is not None:  # else it is being deleted, and its queue buried whole
                with contextlib.suppress(NotOwner):  # the next owner has leased it again, or will
                    await self._settle(function, lease, await self._outcome(function, lease))
        finally:
            self._held.discard(lease.work.request_id)

    async def _outcome(self, function: Function, lease: Lease) -> Outcome | None:
        """What the attempt came to; None when the event is too old, or may not run at all, to be tried."""
        refused = after(function, lease, None, self._now_ms(), self._policy)
        if refused is not None:
            return None
        work = lease.work
        try:
            payload = await self._queue.payload(work)
            current = self._function(self._name)  # fetching may have taken long
            if current is None:
                raise NotOwner(f"function {self._name} has been deleted, and its queue is buried whole")
            invocation = Invocation(
                work.request_id,
                work.function,
                payload,
                self._arn(work.function),
                True,
                work.client_context,
                work.trace_id,
                lease.attempt,
            )
            return await self._dispatcher.call(current, invocation, work.accepted_ms / 1000, work.source)
        except (NoSlot, NotFound, StoreUnavailable, Throttled) as error:
            reason = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}).encode()
            return Outcome(Ending.PLATFORM_FAILURE, reason, type(error).__name__)

    async def _settle(self, function: Function, lease: Lease, outcome: Outcome | None) -> None:
        """Settles for as long as it takes: the outcome is known and must not be lost to a store that is away."""
        while True:
            try:
                await self._settle_once(function, lease, outcome)
            except StoreUnavailable as error:
                log.warning("cannot settle yet", extra={"function": self._name, "reason": str(error)})
                await asyncio.sleep(_STORE_PAUSE_S)
            else:
                return

    async def _settle_once(self, function: Function, lease: Lease, outcome: Outcome | None) -> None:
        decision = after(function, lease, outcome, self._now_ms(), self._policy)
        if isinstance(decision, Retry):
            await self._queue.retry(
                lease, outcome or _NOTHING, decision.due_ms, lost=decision.lost, gives_back=decision.gives_back
            )
        elif isinstance(decision, Bury):
            await self._queue.bury(lease, outcome or _NOTHING, decision.reason)
        elif outcome is not None:
            await self._queue.succeed(lease, outcome)

    # --- what a former owner left ----------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Leases again what a former owner had; to be called before its slots are taken over.

        Raises:
            StoreUnavailable: Nothing has been leased.
        """
        inherited = await self._queue.recover(self._name)
        if not inherited:
            return
        log.info("inherited work", extra={"function": self._name, "count": len(inherited)})
        self._inherited = {lease.work.request_id: lease for lease in inherited}
        task = asyncio.get_running_loop().create_task(self._requeue_inherited())
        self._leased.add(task)
        task.add_done_callback(self._finished)

    async def adopted(self, slot: Slot | None, running: str) -> None:
        """A former owner's slot was taken over, or was lost (None): what it finished since is settled.

        Args:
            running: The request id that ran in it when this gateway came, or empty.
        """
        for kept in slot.greeting.outcomes if slot else ():
            request_id, _, attempt = kept.partition(".")
            lease = self._inherited.get(request_id)
            if slot is None or lease is None or attempt != str(lease.attempt):
                continue  # settled already, and perhaps tried again since
            outcome = await slot.collect(kept)
            if outcome is not None:
                await self._settle_inherited(request_id, outcome)
        if running in self._inherited:
            await self._settle_inherited(running, _GATEWAY_LOST)

    async def _requeue_inherited(self) -> None:
        """What no slot runs and no slot kept an outcome of went down with the gateway: tried again, free of charge."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ADOPTION_S):
                await self._inheritance.settled.wait()
        for request_id in [known for known in self._inherited if known not in self._inheritance.running]:
            await self._settle_inherited(request_id, _GATEWAY_LOST)

    async def _settle_inherited(self, request_id: str, outcome: Outcome) -> None:
        lease = self._inherited.pop(request_id, None)
        function = self._function(self._name)
        if lease is not None and function is not None:
            await self._settle(function, lease, outcome)
            self._wake.set()

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


_NOTHING = Outcome(Ending.PLATFORM_FAILURE, b"{}")
_GATEWAY_LOST = Outcome(Ending.PLATFORM_FAILURE, b'{"errorType":"Okiba.GatewayLost"}', "Okiba.GatewayLost")


def _addressed(outcome: Outcome, request_id: str) -> Outcome:
    """An init phase's end, told as the invocation's that met it: Lambda names the request in such a message."""
    named = b'"errorMessage": "RequestId: %b Error: ' % request_id.encode()
    return outcome._replace(payload=outcome.payload.replace(b'"errorMessage": "Error: ', named, 1))
