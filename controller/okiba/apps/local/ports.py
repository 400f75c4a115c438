"""TCP ports on loopback: which are free, and who has those that are not."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Final

from okiba.core.errors import Conflict

LISTENING: Final = "0A"
"""TCP_LISTEN as /proc/net/tcp writes it."""


def require_free(port: int, purpose: str, option: str) -> None:
    """Makes sure that this port can be listened on.

    Raises:
        Conflict: It is in use; names the process where that can be found.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            by = f" by {holder}" if (holder := port_holder(port)) else ""
            message = f"port {port} ({purpose}) is in use{by}; end that, or choose another with {option}"
            raise Conflict(message) from error


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_holder(port: int) -> str:
    """The process that listens on a port, as `name (process 123)`; empty where it cannot be seen."""
    inodes = _listening_inodes(port)
    if not inodes:
        return ""
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        if _links(descriptors) & inodes:
            process = descriptors.parent
            return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        path = Path(table)
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            _, local, _, state, *rest = line.split()
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{rest[5]}]")
    return inodes


def _links(descriptors: Path) -> set[str]:
    links: set[str] = set()
    with contextlib.suppress(OSError):  # another user's process, or one that has just ended
        for entry in descriptors.iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.add(str(entry.readlink()))
    return links
