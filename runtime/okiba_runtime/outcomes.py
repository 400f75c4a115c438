"""Answers that are kept until they are collected, so that an asynchronous invocation survives its gateway."""

from __future__ import annotations

from collections.abc import Iterable

MAX_OUTCOMES = 16
MAX_BYTES = 8 * 1024 * 1024


class Outcomes:
    """The newest answers asked to be kept, by request id; the oldest fall out when there are too many."""

    def __init__(self) -> None:
        self._answers: dict[str, bytes] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def request_ids(self) -> list[str]:
        """Whose answers are kept, oldest first."""
        return list(self._answers)

    def keep(self, request_id: str, answer: bytes) -> None:
        """Keeps an answer, byte for byte as it goes over the wire; a second one for the same id replaces the first."""
        self.take(request_id)
        self._answers[request_id] = answer
        self._bytes += len(answer)
        while len(self._answers) > 1 and (len(self._answers) > MAX_OUTCOMES or self._bytes > MAX_BYTES):
            self.take(next(iter(self._answers)))

    def take(self, request_id: str) -> bytes | None:
        """The kept answer, kept no longer; None if there is none."""
        answer = self._answers.pop(request_id, None)
        self._bytes -= len(answer or b"")
        return answer

    def drop(self, request_ids: Iterable[str]) -> None:
        """These have been settled; nobody will ask for them."""
        for request_id in request_ids:
            self.take(request_id.strip())
