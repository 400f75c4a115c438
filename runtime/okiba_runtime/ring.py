"""The bounded memory of a slot's output, addressed by byte offset from the slot's birth."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# Output that trickles is joined into pieces of at least this size while it is younger than `_JOIN_MS`, so that a
# handler printing single characters costs no more memory than its characters.
_JOIN_BYTES = 4096
_JOIN_MS = 100


@dataclass(frozen=True, slots=True)
class Piece:
    """Output that was read together.

    Args:
        start: Offset of its first byte.
        time_ms: Wall clock when it was read.
    """

    start: int
    time_ms: int
    body: bytes

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.start + len(self.body)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What a reader gets: bytes from `start` on; `dropped` bytes between what he asked for and `start` are lost."""

    start: int
    dropped: int
    time_ms: int
    body: bytes


class Ring:
    """Keeps the newest `capacity` bytes of output; older pieces fall out whole."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._pieces: deque[Piece] = deque()
        self.end = 0

    @property
    def start(self) -> int:
        """Offset of the oldest byte kept."""
        return self._pieces[0].start if self._pieces else self.end

    @property
    def line_is_open(self) -> bool:
        """Whether the newest byte does not end a line."""
        return bool(self._pieces) and not self._pieces[-1].body.endswith(b"\n")

    def append(self, body: bytes, time_ms: int) -> None:
        """Takes over output that was read just now."""
        if not body:
            return
        last = self._pieces[-1] if self._pieces else None
        if last and len(last.body) < _JOIN_BYTES and time_ms - last.time_ms < _JOIN_MS:
            self._pieces[-1] = Piece(last.start, last.time_ms, last.body + body)
        else:
            self._pieces.append(Piece(self.end, time_ms, body))
        self.end += len(body)
        while self.end - self.start > self._capacity and len(self._pieces) > 1:
            self._pieces.popleft()

    def read(self, offset: int, limit: int) -> Excerpt:
        """At most `limit` bytes from `offset` on; an offset beyond the end reads as the end."""
        start = min(max(offset, self.start), self.end)
        chosen: list[bytes] = []
        time_ms = 0
        for piece in reversed(self._pieces):
            if piece.end <= start:
                break
            chosen.append(piece.body[max(start - piece.start, 0) :])
            time_ms = piece.time_ms
        return Excerpt(start, max(start - offset, 0), time_ms, b"".join(reversed(chosen))[:limit])
