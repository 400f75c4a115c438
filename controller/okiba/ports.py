"""What `flow` asks of the world: a few Protocols, which `adapters` fulfil and `apps` introduces to each other.

Every coroutine here has a deadline of its own inside its adapter and raises `StoreUnavailable` when it passes, or
when the other side refuses; nothing else of a vendor's comes through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from okiba.core.binding import Binding
from okiba.core.function import Function, Layer
from okiba.core.invocation import Invocation, Outcome
from okiba.core.layer import LayerIntent
from okiba.core.s3_policy import StoreUser

# --- ingest -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RawNotification:
    """A notification exactly as it arrived, stored before anything looked into it.

    Args:
        entry: The stream's id of it.
        lane: Which sender: `direct`, `queued`, or a name of another store's.
        received_ms: Wall clock of the gateway.
    """

    entry: str
    lane: str
    received_ms: int
    body: bytes


class Inbox(Protocol):
    """The durable stream of raw notifications, and the quarantine beside it."""

    async def store(self, lane: str, body: bytes, received_ms: int) -> None:
        """The notification is durable when this returns."""
        ...

    async def read(self, count: int, wait_ms: int) -> list[RawNotification]:
        """The next unread notifications, waiting up to `wait_ms` for the first; earlier unsettled ones come first."""
        ...

    async def settle(self, entries: Sequence[str]) -> None:
        """These have been routed (or quarantined) and are never read again."""
        ...

    async def quarantine(self, notification: RawNotification, reason: str) -> None:
        """Sets a notification aside that nobody can read; bounded, counted, shown by `okiba status`."""
        ...

    async def quarantined(self, count: int) -> Quarantine:
        """What was set aside: how much ever, and the newest `count`."""
        ...


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A notification that nobody could read.

    Args:
        body: Its first 64 KiB.
        size: Bytes of the whole.
    """

    id: str
    lane: str
    received_ms: int
    reason: str
    body: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The quarantine as it stands.

    Args:
        total: Ever set aside, those since trimmed included.
        newest: Newest first.
    """

    total: int
    newest: tuple[Quarantined, ...]


# --- the queue of one function, and its ledger ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Work:
    """An asynchronous invocation to be accepted.

    Args:
        event_id: What makes it the same event when it is told again (decided in `core.event`); unique per function.
        request_id: AWS's request id, derived from the event id for bucket events, so that it too stays the same.
        source: `s3`, `sweep` (found in a bucket, told by nobody) or `invoke`.
        accepted_ms: Wall clock when Okiba first had it durably.
    """

    function: str
    event_id: str
    request_id: str
    payload: bytes
    source: str
    accepted_ms: int
    trace_id: str = ""
    client_context: bytes = b""


@dataclass(frozen=True, slots=True)
class Lease:
    """One attempt's right to run; a later attempt of the same work makes it void.

    Args:
        attempt: Attempts begun, this one included; function errors only (platform failures give theirs back).
        losses: How often a slot died under it; at three it is poison.
        token: Fences this attempt: settling with another token changes nothing.
        backlog: How many more wait behind it in the queue at this moment.
    """

    work: Work
    attempt: int
    losses: int
    token: str
    backlog: int

    @property
    def accepted_ms(self) -> int:
        """Wall clock when Okiba first had the work; what its age counts from."""
        return self.work.accepted_ms


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Work that will not be tried again, whole.

    Args:
        reason: `RetriesExhausted`, `EventAgeExceeded`, `Poison`, `ZeroReservedConcurrency`, `FunctionDeleted`.
        error: The last error's JSON.
    """

    id: str
    work: Work
    reason: str
    attempts: int
    losses: int
    error: bytes
    died_ms: int


class Queue(Protocol):
    """Every function's queue, ledger, delayed retries and dead letters; one script an arrow."""

    async def accept(self, works: Sequence[Work]) -> list[bool]:
        """Durable when this returns; False where the ledger has seen the event before (and nothing was added)."""
        ...

    async def seen(self, function: str, event_ids: Sequence[str]) -> list[bool]:
        """Which of these events the ledger has: open, or ended and not forgotten yet."""
        ...

    async def lease(self, function: str, count: int, now_ms: int) -> list[Lease]:
        """Up to `count` pieces of waiting work, retries that are due first."""
        ...

    async def payload(self, work: Work) -> bytes:
        """The work's payload, wherever it is kept.

        Raises:
            NotFound: It was kept in the object store, and somebody has removed it there.
        """
        ...

    async def succeed(self, lease: Lease, outcome: Outcome) -> bool:
        """The event's one end: succeeded. False when the lease was void."""
        ...

    async def retry(self, lease: Lease, outcome: Outcome, due_ms: int, *, lost: bool, gives_back: bool) -> bool:
        """Back into the queue, not before `due_ms`; `gives_back` when the attempt does not count."""
        ...

    async def bury(self, lease: Lease, outcome: Outcome, reason: str) -> bool:
        """The event's one end: dead-lettered, with everything needed to run it again."""
        ...

    async def recover(self, function: str, held: Collection[str] = ()) -> list[Lease]:
        """What is leased and in nobody's hand, leased again to this gateway at no cost to it.

        Args:
            held: Request ids that this gateway has in hand: their leases stay as they are.
        """
        ...

    async def depths(self, functions: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Per function (waiting and delayed, age in ms of the oldest)."""
        ...

    async def dead_letters(self, function: str, after: str, count: int) -> list[DeadLetter]:
        """Oldest first, from the one behind `after` (empty: from the beginning)."""
        ...

    async def dead_letter(self, function: str, letter_id: str) -> DeadLetter | None:
        """One of them, by its id."""
        ...

    async def redrive(self, function: str, letter_id: str, now_ms: int) -> bool:
        """The dead letter's event is tried again, from the beginning and as the same event; False: no such letter.

        Raises:
            Conflict: The event is being tried already.
        """
        ...

    async def purge(self, function: str, letter_id: str) -> bool:
        """The dead letter is gone for good; False: there was none."""
        ...

    async def dead_counts(self, functions: Sequence[str]) -> dict[str, int]:
        """Dead letters kept, per function."""
        ...

    async def forget(self, function: str) -> int:
        """The function is gone: all its open work ends as dead letters (`FunctionDeleted`), which stay for 7 days.

        Returns how much work ended so. What was leased becomes void. May be called again.
        """
        ...


# --- the registry and its followers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Census:
    """All functions at one look.

    Args:
        unreadable: Names whose record is there and cannot be read; nothing is known of what is theirs.
    """

    functions: list[Function]
    unreadable: list[str]


class Registry(Protocol):
    """Functions, durably; the truth about them."""

    async def get(self, name: str) -> Function | None:
        """The function of that name."""
        ...

    async def put(self, function: Function, *, replaces: str | None) -> None:
        """Stores it if the stored revision is `replaces` (None: if there is none).

        Raises:
            PreconditionFailed: Another revision is there.
        """
        ...

    async def delete(self, name: str) -> bool:
        """The function is gone when this returns; False when there was none."""
        ...

    async def all(self) -> list[Function]:
        """Every function that can be read."""
        ...

    async def census(self) -> Census:
        """The same, with the names of those that cannot: who removes what is nobody's has to know of them."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """Names of functions and `key:ID` of keys as they change, from this call on; never ends."""
        ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a key belongs to.

    Args:
        name: `admin`, or the function's name.
        secret: The key's secret, in clear, in memory only.
    """

    access_key: str
    secret: str
    name: str
    enabled: bool = True


class Keys(Protocol):
    """Key pairs that Okiba issued; secrets are encrypted where they lie."""

    async def get(self, access_key: str) -> Principal | None:
        """Whose key that is."""
        ...

    async def put(self, principal: Principal) -> None:
        """Stores the key pair, replacing what is known of the same access key."""
        ...

    async def delete(self, access_key: str) -> None:
        """The key is worth nothing from now on."""
        ...

    async def all(self) -> list[Principal]:
        """Every key pair."""
        ...


class Logs(Protocol):
    """Functions' output, kept after their slots are gone; bounded by bytes a function."""

    async def append(self, function: str, slot: str, from_offset: int, time_ms: int, body: bytes, dropped: int) -> None:
        """Keeps output as it was pulled from a slot; the oldest of the function's goes when there is too much."""
        ...

    async def read(self, function: str, after: str, wait_ms: int) -> list[LogChunk]:
        """Oldest first, from the one behind `after` (empty: all there is), waiting up to `wait_ms` for the first."""
        ...

    async def forget(self, function: str) -> None:
        """The function is gone: its output stays for 7 days."""
        ...


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Output of one slot as it was pulled; `dropped` bytes before it were lost."""

    id: str
    slot: str
    time_ms: int
    body: bytes
    dropped: int


# --- slots ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlotAddress:
    """A slot somewhere.

    Args:
        id: Unique for ever.
        kind: The pool it was made for: `python3.11`, or `python3.11+<layer hash>` with that layer preloaded.
        address: `unix:/path` or `tcp:host:port` of its agent.
        function: Whose it has become; empty while warm.
        revision: Which revision of it.
    """

    id: str
    kind: str
    address: str
    function: str = ""
    revision: str = ""


class Fleet(Protocol):
    """Where slots come from, as a gateway sees it. Nothing here waits: answers come as calls to the listener.

    The controller deals warm slots ahead of time, so that a claim is a look into memory.
    """

    def claim(self, kinds: Sequence[str], function: str, revision: str) -> SlotAddress | None:
        """A warm slot of the first kind that has one, now this gateway's; None when all are empty.

        A pod belongs to one function's revision for life: slots beside one that it has already go first.
        """
        ...

    def took(self, slot: SlotAddress, epoch: int) -> None:
        """Tells the controller whose the slot becomes, *before* it is told so itself: an owner who comes after this
        one, however it ended, knows every slot that may be specialised.

        Args:
            epoch: Of the function's owner; the controller does not hear of the slot from earlier ones any more.
        """
        ...

    def taken(self, function: str) -> Sequence[SlotAddress]:
        """Every slot of the function that is known of, whoever took it."""
        ...

    def functions(self) -> Collection[str]:
        """Functions of which slots are known; some may have been deleted."""
        ...

    def want(self, kind: str, count: int, each: Sequence[int] = ()) -> None:
        """So many calls wait for slots of this kind right now; replaces what was said before.

        Args:
            each: The same per function that waits.
        """
        ...

    def retire(self, slot_id: str, epoch: int) -> None:
        """The slot has no use any more: its processes are to end, unless a later owner has it by now."""
        ...

    def disclaim(self, function: str, revision: str = "") -> None:
        """Warm slots that were kept for a function's revision, beside others of their pod, go; empty: for any."""
        ...

    def disown(self, slot_id: str) -> None:
        """The slot is another owner's by now: nothing more is said of it."""
        ...

    def trust(self, gateway: str, life: int) -> None:
        """Nothing is in doubt any more about that gateway."""
        ...

    def doubt(self, gateway: str, life: int) -> None:
        """That gateway is dead: which warm slots of its may it have put to use? The listener is told, again each time
        that the link is back, and of each when it is gone.
        """
        ...


class FleetListener(Protocol):
    """What a fleet tells its gateway."""

    def slot_dealt(self, slot: SlotAddress) -> None:
        """A warm slot is ready to be claimed, or (with `function`) one of an earlier gateway's is to be taken over."""
        ...

    def slot_gone(self, slot_id: str, reason: str) -> None:
        """The slot's processes have ended."""
        ...

    def fleet_synced(self) -> None:
        """Every slot that existed when this gateway said hello has been dealt."""
        ...

    def doubt_answered(self, gateway: str, life: int, slots: Collection[str]) -> None:
        """Of the warm slots that dead gateways had, these have not ended yet; all that were taken have been told."""
        ...

    def fleet_refused(self) -> None:
        """The controller takes this life of the gateway for dead; another one would be let in."""
        ...


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a worker says first on a new connection.

    Args:
        init_error: The error JSON when its init phase failed, else None.
        outcomes: Outcomes that it keeps, each `REQUEST_ID.ATTEMPT`.
    """

    worker: str
    init_us: int
    init_error: bytes | None
    outcomes: tuple[str, ...]


class Slot(Protocol):
    """The one connection to a specialised slot."""

    @property
    def id(self) -> str:
        """Unique for ever."""
        ...

    @property
    def revision(self) -> str:
        """The function's revision that it was specialised for."""
        ...

    @property
    def dead(self) -> bool:
        """It can take no more invocations."""
        ...

    @property
    def ended(self) -> bool:
        """Its agent has told how its processes ended: nothing runs in it."""
        ...

    @property
    def greeting(self) -> Greeting:
        """What its worker said first."""
        ...

    async def invoke(self, invocation: Invocation, timeout_ms: int) -> Outcome:
        """Runs it; every way it can end is an Outcome. The caller must not call twice at a time."""
        ...

    async def collect(self, kept: str) -> Outcome | None:
        """The outcome kept of an attempt that an earlier life of this gateway asked for, named as in the greeting."""
        ...

    def release(self) -> None:
        """Lets go of the connection."""
        ...


class SlotOpener(Protocol):
    """Makes a function's slot out of a warm one, or takes over one that was made before."""

    async def open(self, address: SlotAddress, function: Function, on_dead: Callable[[Slot], None]) -> Slot:
        """Specialised if `address` names no function yet, connected, greeted.

        Raises:
            SlotLost: The slot is gone, refuses, or did not greet.
        """
        ...

    def gone(self, slot_id: str, reason: str) -> None:
        """The fleet says that a slot has ended: a call that was in it wants to know why."""
        ...

    async def running(self, address: SlotAddress) -> str:
        """The request id that runs in a slot of an earlier life, or empty; never raises."""
        ...


# --- preparing functions --------------------------------------------------------------------------------------------


class CodeShelf(Protocol):
    """Deployed packages, unpacked where slots read them."""

    async def ensure(self, sha256: str) -> None:
        """The package lies unpacked in its folder.

        Raises:
            NotFound: It is not stored.
            InvalidParameter: It cannot be unpacked.
        """
        ...

    async def sweep(self, referenced: Collection[str], now_ms: int) -> None:
        """Packages that nothing refers to, and has not for a while, are gone."""
        ...


class LayerShelf(Protocol):
    """Layers, and what is wanted of those that are not there yet."""

    async def is_built(self, layer_hash: str) -> bool:
        """Whether the layer is where slots get it from, whole."""
        ...

    async def read(self, layer_hash: str) -> LayerIntent | None:
        """What is known of building it."""
        ...

    async def want(self, layer: Layer, runtime: str, now_ms: int) -> None:
        """A job is to build it; safe to repeat."""
        ...

    async def sweep(self, needed: Callable[[], Collection[str]], now_ms: int) -> None:
        """Layers that nothing needs, and has not for long, are gone; `needed` is asked right before one goes."""
        ...


class StoreAdmin(Protocol):
    """The object store's buckets and users. These calls block: they are made in threads."""

    def buckets(self) -> list[str]:
        """Every bucket's name."""
        ...

    def ensure_bucket(self, bucket: str) -> None:
        """The bucket exists when this returns."""
        ...

    def announce(self, bucket: str, bindings: Iterable[Binding], *, only_add: bool = False) -> bool:
        """The bucket announces what these bindings of all functions need; True when that was a change.

        Args:
            only_add: It also goes on announcing what it does: not all bindings are known.
        """
        ...

    def users(self) -> list[StoreUser]:
        """Every function's user that Okiba has made."""
        ...

    def ensure_user(self, user: StoreUser, secret: str, policy: Mapping[str, Any], *, enabled: bool = True) -> None:
        """The user exists with this secret and exactly this policy, and may use them if it is enabled."""
        ...

    def remove_user(self, user: StoreUser) -> None:
        """Neither the user nor its policy exists when this returns."""
        ...
