"""Names that somebody has to look at, each once at a time, however often it was asked for.

The shape is that of a work queue in Kubernetes' client-go: a name that is asked for again while it is being looked at
comes up again afterwards, so that no change is missed and none is worked on twice at a time.
"""

from __future__ import annotations


class Agenda:
    """What is due when; times are milliseconds of any one clock."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._taken: set[str] = set()

    def add(self, name: str, due_ms: int) -> None:
        """The name is to be looked at, no later than that."""
        self._due[name] = min(due_ms, self._due.get(name, due_ms))

    def take(self, now_ms: int) -> str | None:
        """The name that has been due longest and that nobody is looking at; it stays taken until `done`."""
        ready = [(due, name) for name, due in self._due.items() if due <= now_ms and name not in self._taken]
        if not ready:
            return None
        _, name = min(ready)
        del self._due[name]
        self._taken.add(name)
        return name

    def done(self, name: str) -> None:
        """Nobody looks at the name any more."""
        self._taken.discard(name)

    def wait_ms(self, now_ms: int) -> int | None:
        """How long until a name can be taken; None when none is waiting that could be."""
        dues = [due for name, due in self._due.items() if name not in self._taken]
        return max(0, min(dues) - now_ms) if dues else None
