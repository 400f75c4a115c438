"""The socket that an agent listens on; it appears under its name only when connections are welcome."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

_BACKLOG = 64

# A gateway whose machine is gone says no goodbye. What it held is free again after this time, in seconds: the same
# that a slot has to be silent to count as lost, and as long again to be sure.
_IDLE_S, _PROBE_S, _PROBES = 15, 5, 3
_SILENCE_S = _IDLE_S + _PROBE_S * _PROBES


@contextlib.contextmanager
def listener(address: str) -> Iterator[socket.socket]:
    """A socket listening at `unix:/path` or `tcp:host:port`; the path is removed in the end.

    Raises:
        ValueError: The address is neither.
        OSError: It cannot be listened on.
    """
    kind, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    if kind == "unix" and rest.startswith("/"):
        with _unix(rest) as bound:
            yield bound
    elif kind == "tcp" and port.isdigit():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG) as bound:
            bound.setblocking(False)
            yield bound
    else:
        raise ValueError(f"expected unix:/path or tcp:host:port, got {address!r}")


def tune(connection: socket.socket) -> None:
    """An accepted connection sends what it is given at once, and ends when its other side is silent for too long."""
    connection.setblocking(False)
    if connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, _IDLE_S),
        (socket.TCP_KEEPINTVL, _PROBE_S),
        (socket.TCP_KEEPCNT, _PROBES),
        (socket.TCP_USER_TIMEOUT, _SILENCE_S * 1000),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


@contextlib.contextmanager
def _unix(path: str) -> Iterator[socket.socket]:
    # Bound under another name first: whoever sees the path can connect to it.
    hidden = f"{path}.{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(hidden)
        bound.listen(_BACKLOG)
        bound.setblocking(False)
        os.rename(hidden, path)
        try:
            yield bound
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
