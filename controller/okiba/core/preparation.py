"""What a function's record says of being prepared: done, waiting, or refused.

A function that was Active before stays so whatever becomes of a change to it; calls run what was active.
"""

from __future__ import annotations

from dataclasses import replace

from okiba.core.function import Function, State, UpdateStatus


def prepared(function: Function) -> Function:
    """The function as one that can run, in this revision."""
    ready = replace(function, state=State.ACTIVE, state_reason="", state_reason_code="")
    return replace(ready, last_update=UpdateStatus.SUCCESSFUL, last_update_reason="", running=None)


def waiting(function: Function, reason: str) -> Function:
    """The function as one that goes on being prepared; one that needs nothing is as it was."""
    if function.state is State.PENDING:
        return replace(function, state_reason=reason, state_reason_code="Creating")
    if function.last_update is UpdateStatus.IN_PROGRESS:
        return replace(function, last_update_reason=reason)
    return function


def refused(function: Function, reason: str) -> Function:
    """The function as one that cannot be prepared, however long one waits."""
    if function.state is State.ACTIVE:
        return replace(function, last_update=UpdateStatus.FAILED, last_update_reason=reason)
    return replace(function, state=State.FAILED, state_reason=reason, state_reason_code="InvalidConfiguration")


def given_up(function: Function) -> bool:
    """Whether this revision was refused: only another one is tried."""
    return function.state is State.FAILED or function.last_update is UpdateStatus.FAILED
