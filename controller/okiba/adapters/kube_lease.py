"""Leadership by a Lease: one of several controllers acts, and knows from its own clock when it may no longer.

    LEASE_S      10   a Lease not renewed for so long, as its observer's clock measures it, may be taken
    RENEW_S       6   its holder stops acting so long after its last renewal that went through
    RETRY_S       2   pause between renewals, and between looks at somebody else's

No clock is compared with another one's: times in the Lease are for people. The holder counts from before it asked, so
that it stops first, whatever an answer took. A process that was stopped finds its time over when it goes on.

Source:
    client-go's tools/leaderelection; its proportions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from okiba.core.errors import CallerError, Conflict, NotLeading, PlatformError

log = logging.getLogger(__name__)

Document = dict[str, Any]

LEASE_S: Final = 10
RENEW_S: Final = 6.0
RETRY_S: Final = 2.0


class Leases(Protocol):
    """Where the Lease lies."""

    def lease(self, namespace: str, name: str) -> Document | None:
        """The Lease of that name."""
        ...

    def create_lease(self, namespace: str, lease: Document) -> Document:
        """The Lease, new."""
        ...

    def replace_lease(self, namespace: str, lease: Document) -> Document:
        """The Lease, changed, unless somebody was faster."""
        ...


class Leadership:
    """Whether this process leads, as far as it may believe so itself. May be asked in any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0

    @property
    def left_s(self) -> float:
        """How long it goes on without a renewal; 0 or less: it does not lead."""
        return self._until - self._clock()

    def check(self) -> None:
        """Returns if this process leads.

        Raises:
            NotLeading: It does not, or not surely.
        """
        if self.left_s <= 0:
            raise NotLeading("this controller does not lead (any more)")

    def extend(self, asked_at: float) -> None:
        """A renewal went through that was asked for at that time of the clock."""
        self._until = asked_at + RENEW_S

    def end(self) -> None:
        """It leads no more."""
        self._until = 0.0


class Candidate:
    """One process that would lead.

    Args:
        identity: Its name, unique among all that ever ran.
        call: Runs a blocking call elsewhere.
        leadership: Told of every renewal.
    """

    def __init__(
        self,
        leases: Leases,
        call: Callable[..., Awaitable[Any]],
        namespace: str,
        name: str,
        identity: str,
        leadership: Leadership,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases, self._call = leases, call
        self._namespace, self._name, self._identity = namespace, name, identity
        self.leadership = leadership
        self._clock = clock
        self._observed: tuple[object, float] = (None, 0.0)

    async def win(self) -> None:
        """Returns when this process leads."""
        while not await self.try_once():  # noqa: ASYNC110 (it is the API server that has to be asked again)
            await asyncio.sleep(RETRY_S)
        log.info("leading", extra={"lease": self._name, "identity": self._identity})

    async def keep(self) -> None:
        """Renews for as long as this process leads.

        Raises:
            NotLeading: It leads no more.
        """
        while self.leadership.left_s > 0:
            await asyncio.sleep(min(RETRY_S, self.leadership.left_s))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self.leadership.left_s)):
                    await self.try_once(renewing=True)
        raise NotLeading("the Lease could not be renewed in time")

    async def give_up(self) -> None:
        """Lets the next one lead at once, if this one does."""
        leading = self.leadership.left_s > 0
        self.leadership.end()
        if not leading:
            return
        with suppress(PlatformError, CallerError):
            lease = await self._call(self._leases.lease, self._namespace, self._name)
            if lease and _holder(lease) == self._identity:
                released = {**lease, "spec": {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}}
                await self._call(self._leases.replace_lease, self._namespace, released)

    async def try_once(self, *, renewing: bool = False) -> bool:
        """Takes or renews the Lease if that is right; whether that went through.

        Args:
            renewing: Only if it still is this process's: what another holder did meanwhile is not known here.
        """
        asked_at = self._clock()
        try:
            if not await self._held(renewing):
                return False
        except Conflict:
            return False  # somebody else was faster
        except (PlatformError, CallerError) as trouble:
            log.warning("the Lease cannot be had", extra={"lease": self._name, "reason": str(trouble)})
            return False
        self.leadership.extend(asked_at)
        return True

    async def _held(self, renewing: bool) -> bool:
        lease = await self._call(self._leases.lease, self._namespace, self._name)
        if renewing and (lease is None or _holder(lease) != self._identity):
            return False
        if lease is None:
            await self._call(self._leases.create_lease, self._namespace, self._fresh())
            return True
        if _holder(lease) not in ("", self._identity) and not self._expired(lease):
            return False
        await self._call(self._leases.replace_lease, self._namespace, self._taken(lease))
        return True

    def _expired(self, lease: Document) -> bool:
        """Whether it has looked the same for as long as it is good for."""
        version, now = lease["metadata"]["resourceVersion"], self._clock()
        if self._observed[0] != version:
            self._observed = (version, now)
        return now - self._observed[1] > float(lease["spec"].get("leaseDurationSeconds") or LEASE_S)

    def _fresh(self) -> Document:
        metadata = {"name": self._name, "namespace": self._namespace}
        now = _micro_time()
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {**self._spec(now), "acquireTime": now, "leaseTransitions": 0},
        }

    def _taken(self, lease: Document) -> Document:
        spec, now = lease["spec"], _micro_time()
        if _holder(lease) != self._identity:
            transitions = int(spec.get("leaseTransitions") or 0) + 1
            spec = {**spec, "acquireTime": now, "leaseTransitions": transitions}
        return {**lease, "spec": {**spec, **self._spec(now)}}

    def _spec(self, now: str) -> Document:
        return {"holderIdentity": self._identity, "leaseDurationSeconds": LEASE_S, "renewTime": now}


def _holder(lease: Document) -> str:
    return lease.get("spec", {}).get("holderIdentity") or ""


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
