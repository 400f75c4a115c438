"""What a slot was made for, before it was anyone's: its Python version, its memory, the layer it has preloaded.

    python3.11              on one machine, where the agent alone watches memory
    python3.11/256          in a container that may have 256 MB
    python3.11/256+HASH     with that layer fetched and its modules imported

A pod is what slots come in on Kubernetes, and belongs to one function version for life: `pod_of` a slot's id tells
which slots share one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from okiba.core.function import Function

MEMORY_CLASSES: Final = (128, 256, 512, 1024, 2048, 4096, 8192, 10240)
"""MB that a slot's container is made for; each doubles the one before, up to Lambda's largest."""


@dataclass(frozen=True, slots=True)
class SlotKind:
    """A warm pool's name, taken apart.

    Args:
        memory_mb: One of `MEMORY_CLASSES`; 0 where slots have no container.
        layer: A layer's hash, or empty.
    """

    runtime: str
    memory_mb: int = 0
    layer: str = ""

    @classmethod
    def parse(cls, kind: str) -> SlotKind:
        """The kind that `str` has written.

        Raises:
            ValueError: The memory is no number.
        """
        base, _, layer = kind.partition("+")
        runtime, _, memory = base.partition("/")
        return cls(runtime, int(memory or 0), layer)

    def __str__(self) -> str:
        memory = f"/{self.memory_mb}" if self.memory_mb else ""
        layer = f"+{self.layer}" if self.layer else ""
        return f"{self.runtime}{memory}{layer}"

    @property
    def python(self) -> str:
        """The Python version alone, as 3.11."""
        return self.runtime.removeprefix("python")


def memory_class(memory_mb: int) -> int:
    """The smallest class that a function of so much memory fits into."""
    return next((size for size in MEMORY_CLASSES if size >= memory_mb), MEMORY_CLASSES[-1])


def kinds_for(function: Function, *, by_memory: bool) -> tuple[str, ...]:
    """The pools that may serve a function, best first: its layer's, then its Python version's.

    Args:
        by_memory: Slots are containers, so that pools differ by memory too.
    """
    memory_mb = memory_class(function.memory_mb) if by_memory else 0
    base = SlotKind(function.runtime, memory_mb)
    if function.layer is None:
        return (str(base),)
    return (str(SlotKind(function.runtime, memory_mb, function.layer.hash)), str(base))


def pod_of(slot_id: str) -> str:
    """What the slot shares with its neighbours; a slot without any is a pod of its own."""
    pod, dot, _ = slot_id.rpartition(".")
    return pod if dot else slot_id
