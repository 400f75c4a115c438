"""The socket that an agent listens on; it appears under its name only when connections are welcome."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

_BACKLOG = 64


@contextlib.contextmanager
def listener(address: str) -> Iterator[socket.socket]:
    """A socket listening at `unix:/path` or `tcp:host:port`; the path is removed in the end.

    Raises:
        ValueError: The address is neither.
        OSError: It cannot be listened on.
    """
    kind, _, rest = address.partition(":")
    if kind == "unix" and rest.startswith("/"):
        with _unix(rest) as bound:
            yield bound
    elif kind == "tcp" and rest.rpartition(":")[2].isdigit():
        host, _, port = rest.rpartition(":")
        with socket.create_server((host, int(port)), backlog=_BACKLOG) as bound:
            bound.setblocking(False)
            yield bound
    else:
        raise ValueError(f"expected unix:/path or tcp:host:port, got {address!r}")


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
