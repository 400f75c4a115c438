"""How many slots a function should have. Pure: numbers in, a number out.

Not here: which warm slot is taken, or when an idle one is given up; that is `flow.scale`, which asks here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """Counts for one function at one moment.

    Args:
        calling: Callers who wait on an open connection, served or not yet.
        backlog: Asynchronous work that is leased or waits in the queue, retries that are due included.
    """

    calling: int
    backlog: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What demand may claim.

    Args:
        maximum: The function's concurrency; nothing passes it.
        backlog_width: Slots that a backlog alone may claim: it can wait, and this is one machine.
    """

    maximum: int
    backlog_width: int


def desired_slots(demand: Demand, limits: Limits) -> int:
    """The number of slots that would serve this demand, from 0 to `limits.maximum`.

    There is no averaging window: an event is a unit of work, not a rate, so the backlog already is the demand.

        calling 3, backlog 5000, maximum 100, width 16 → 19
        calling 200, backlog 0, maximum 100            → 100
        (test_a_backlog_adds_its_width_to_what_callers_need)

    Source:
        Shape of ceil(observed / target) in Knative's pkg/autoscaler/scaling/autoscaler.go, without panic mode.
    """
    return min(limits.maximum, demand.calling + min(demand.backlog, limits.backlog_width))
