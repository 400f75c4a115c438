"""Whether a worker still gets its tasks: a process can live, answer probes, and have stopped consuming after its
broker came back (Celery's issues 8030, 8091, 10205, 10302).
"""

from __future__ import annotations

from typing import Final

DEAF_AFTER_S: Final = 60.0
"""Four canaries, which are sent every 15 s."""


class Liveness:
    """What is known of one worker; times are seconds of a clock that only goes forward.

    Args:
        now: When it started.
    """

    def __init__(self, now: float) -> None:
        self._last_sign = now
        self._running = 0

    def began(self) -> None:
        """A task has been started."""
        self._running += 1

    def ended(self, now: float) -> None:
        """A task has ended, however."""
        self._running -= 1
        self._last_sign = now

    def broker_away(self, now: float) -> None:
        """The broker did not answer: no task can arrive, and that is not the worker's fault."""
        self._last_sign = now

    def nothing_waits(self, now: float) -> None:
        """The queue is empty: whether this worker would hear of a task cannot be told."""
        self._last_sign = now

    def deaf(self, now: float) -> bool:
        """Whether tasks waited, nothing ran (tasks are bounded in time), and still none came for long."""
        return self._running == 0 and now - self._last_sign > DEAF_AFTER_S
