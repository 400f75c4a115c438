"""What the controller says to agents in pods: are you there, preload this, end. Gateways say the rest."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any, Final

from okiba import wire
from okiba.adapters.slot_http import connect
from okiba.core.errors import PlatformError, SlotLost

ANSWER_S: Final = 2.0
PRELOAD_MS: Final = 60_000
FIRST_PAUSE_S: Final = 0.02
LAST_PAUSE_S: Final = 0.5


def grant_of(platform_key: str, slot_id: str) -> str:
    """What proves to a specialised slot that its caller is the platform."""
    return hmac.new(bytes.fromhex(platform_key), f"grant:{slot_id}".encode(), hashlib.sha256).hexdigest()


async def await_agent(address: str, patience_s: float) -> bool:
    """Whether an agent answers there within that time, whatever it answers."""
    deadline, pause_s = time.monotonic() + patience_s, FIRST_PAUSE_S
    while True:
        if await _asked(address, wire.telemetry_request("", 0, 0), ANSWER_S) is not None:
            return True
        if time.monotonic() + pause_s > deadline:
            return False
        await asyncio.sleep(pause_s)
        pause_s = min(LAST_PAUSE_S, pause_s * 1.5)


async def preload(address: str, wish: Mapping[str, Any]) -> str:
    """Has an agent that is nobody's fetch layers and import their modules ahead; why it would not, or empty.

    Refused once the slot is somebody's, which is as good.
    """
    request = wire.preload_request({**wish, "limit_ms": PRELOAD_MS})
    answer = await _asked(address, request, PRELOAD_MS / 1000 + ANSWER_S)
    if answer is None:
        return "the agent did not answer"
    if answer.status not in (200, 409):
        return f"answered {answer.status}: {answer.body[:300].decode(errors='replace')}"
    return ""


async def end(address: str, grant: str) -> bool:
    """Ends the slot; with an empty grant only if it is nobody's yet. Whether it has ended, as far as is known."""
    try:
        connection = await connect(address)
    except SlotLost:
        return False
    try:
        answer = await connection.ask(wire.shutdown_request(grant), ANSWER_S)
    except SlotLost:
        return True  # it ended before it could answer
    except (PlatformError, TimeoutError):
        return False
    finally:
        connection.close()
    return answer.status == 200


async def _asked(address: str, request: bytes, patience_s: float) -> wire.Answer | None:
    """The answer; None when there was none."""
    try:
        connection = await connect(address)
    except SlotLost:
        return None
    try:
        return await connection.ask(request, patience_s)
    except (PlatformError, TimeoutError):
        return None
    finally:
        connection.close()
