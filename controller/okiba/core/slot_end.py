"""Why a slot ended, as the controller tells the gateways (`gone`): texts for people, one of which decides something.

On cgroup v2 the kernel kills all of a container that has run out of memory, its agent too, so that nobody in it is left
to report; the gateway then learns the cause from here.
"""

from __future__ import annotations

from typing import Final

OUT_OF_MEMORY: Final = "out of memory"
ENDED: Final = "ended"
DIED: Final = "died"
UNKNOWN: Final = "unknown"

_KILLED: Final = 128 + 9


def end_reason(reason: str, exit_code: int, *, wanted: bool) -> str:
    """What a container's end means for the slot in it.

    A SIGKILL that nobody asked for counts as the kernel's for memory: containerd does not always see that it was.

    Args:
        reason: Kubernetes' own, such as `OOMKilled` or `Error`.
        wanted: The platform was ending the slot, or the pod.
    """
    if reason == "OOMKilled" or (exit_code == _KILLED and reason in ("", "Error") and not wanted):
        return f"{OUT_OF_MEMORY}: {reason or 'killed'} (exit code {exit_code})"
    if wanted or exit_code == 0:
        return ENDED
    return f"{DIED}: {reason or 'no reason given'} (exit code {exit_code})"


def is_out_of_memory(reason: str) -> bool:
    """Whether an invocation that was in the slot ends as `Runtime.OutOfMemory`."""
    return reason.startswith(OUT_OF_MEMORY)
