"""The long poll that is a slot's beat: who waits for what, and what they are told."""

from __future__ import annotations

import time
from dataclasses import dataclass

from okiba_runtime import slot as slots
from okiba_runtime import wire
from okiba_runtime.peers import Peer, Request
from okiba_runtime.ring import Ring
from okiba_runtime.slot import Slot

_MAX_WAIT_MS = 5_000
_MAX_BODY = 256 * 1024

# Log bytes alone are told at most once a second: enough for who reads along, and cheap for who is called all the time.
_LOG_PAUSE_US = 1_000_000


class BadQuery(ValueError):
    """The query is not what it must be; the message says what was seen."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A telemetry request that is not answered yet; times on the monotonic clock."""

    peer: Peer
    offset: int
    seen: str
    until_us: int


class Telemetry:
    """Answers telemetry requests when there is something to tell, or when they have waited long enough.

    Args:
        facts: Headers of what the slot was made of.
    """

    def __init__(self, slot: Slot, ring: Ring, facts: dict[str, str]) -> None:
        self._slot, self._ring, self.facts = slot, ring, facts
        self._waiting: list[Waiting] = []
        self._log_told_us = 0

    def ask(self, peer: Peer, request: Request) -> None:
        """Takes a request in; `answer` answers it.

        Raises:
            BadQuery: `log` or `wait_ms` is no number.
        """
        offset, wait_ms = _number(request.query, "log"), _number(request.query, "wait_ms")
        until_us = time.monotonic_ns() // 1000 + min(wait_ms, _MAX_WAIT_MS) * 1000
        self._waiting.append(Waiting(peer, offset, request.query.get("seen", ""), until_us))

    def answer(self, now_us: int) -> None:
        """Answers those whose time has come."""
        if not self._waiting:
            return
        due = [waiting for waiting in self._waiting if self._is_due(waiting, now_us)]
        for waiting in due:
            self._waiting.remove(waiting)
            waiting.peer.answer(self._told(waiting))
            if self._ring.end > waiting.offset:
                self._log_told_us = now_us

    def next_us(self) -> int | None:
        """When `answer` must be called at the latest, if nothing else happens."""
        self._waiting = [waiting for waiting in self._waiting if waiting.peer.awaits_answer]
        return min((self._until(waiting) for waiting in self._waiting), default=None)

    def _until(self, waiting: Waiting) -> int:
        if self._ring.end > waiting.offset:
            return min(waiting.until_us, self._log_told_us + _LOG_PAUSE_US)
        return waiting.until_us

    def _is_due(self, waiting: Waiting, now_us: int) -> bool:
        slot = self._slot
        if slot.state == slots.EXITED or now_us >= self._until(waiting):
            return True
        state, _, request_id = waiting.seen.partition(":")
        return bool(state) and (state != slot.state or (bool(request_id) and request_id != slot.request_id))

    def _told(self, waiting: Waiting) -> bytes:
        slot = self._slot
        excerpt = self._ring.read(waiting.offset, _MAX_BODY)
        headers = [
            ("Okiba-State", slot.state),
            ("Okiba-Log-From", str(excerpt.start)),
            ("Okiba-Log-Dropped", str(excerpt.dropped)),
            ("Okiba-Log-Time-Ms", str(excerpt.time_ms)),
            ("Okiba-Memory-Kb", str(slot.peak_kb)),
            *self.facts.items(),
        ]
        if slot.request_id:
            headers.append(("Okiba-Running", slot.request_id))
        if slot.ending:
            headers.append(("Okiba-Exit", slot.ending.report_json(slot.peak_kb, slot.last_request_id).decode()))
        elif slot.modules:
            headers.append(("Okiba-Preload", slot.modules.decode("latin-1")))
        return wire.response(200, headers, excerpt.body)


def _number(query: dict[str, str], name: str) -> int:
    raw = query.get(name, "0")
    if not raw.isdigit() or len(raw) > 18:
        raise BadQuery(f"{name} must be a whole number, got {raw[:40]!r}")
    return int(raw)
