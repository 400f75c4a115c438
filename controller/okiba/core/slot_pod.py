"""A pod of slots as the controller last saw it, and whose it has become. Values, read from whatever told them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from okiba.core.slot_kind import SlotKind

SLOT_PORT: Final = 9100
"""Where the first slot of a pod listens; the next ones follow it."""


class SlotPhase(StrEnum):
    """How far a slot's container has come; it never goes back."""

    COMING = "coming"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class SlotSeen:
    """One slot's container.

    Args:
        reason: Kubernetes' reason of its end; empty while it lives.
        exit_code: 0 while it lives.
    """

    phase: SlotPhase = SlotPhase.COMING
    reason: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Holding:
    """Whose a pod has become.

    Args:
        slots: Numbers of the slots that were specialised; the others of the pod are kept for the same function.
    """

    function: str = ""
    revision: str = ""
    slots: frozenset[int] = frozenset()

    def with_slot(self, number: int, function: str, revision: str) -> Holding:
        """The same with one slot more."""
        return Holding(function, revision, self.slots | {number})


NOBODYS: Final = Holding()


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod of slots.

    Args:
        version: Grows with each change of the pod, as far as such numbers can be compared; for logs.
        created_ms: Wall clock of the API server.
        ending: It is being deleted.
        lost: Its node has not been heard of for so long that the cluster has given it up.
        trouble: Why it does not start, such as an image that cannot be pulled; empty when nothing is known.
    """

    name: str
    uid: str
    kind: SlotKind
    slots: tuple[SlotSeen, ...]
    ip: str = ""
    node: str = ""
    created_ms: int = 0
    ending: bool = False
    lost: bool = False
    trouble: str = ""
    holding: Holding = field(default=NOBODYS)

    def slot_id(self, number: int) -> str:
        """Unique for ever, as the pod's name is."""
        return f"{self.name}.{number}"

    def address(self, number: int) -> str:
        """Where the slot's agent listens."""
        return f"tcp:{self.ip}:{SLOT_PORT + number}"
