"""`okiba status` in one answer: what runs, what waits, what went wrong; what cannot be had is told as such."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from okiba.adapters.redis_conditions import PERIODS_S, Condition, RedisConditions
from okiba.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from okiba.apps.gateway.process import Gateway

MISSED: Final = 3
"""A part that has not said anything for so many of its periods is told as silent, whatever it said last."""


async def status(gateway: Gateway) -> Mapping[str, Any]:
    """The answer of `GET /okiba/v1/status`."""
    names = [function.name for function in gateway.catalogue.functions()]
    try:
        depths = await gateway.queue.depths(names)
        retries = await gateway.queue.retries(names)
        dead = await gateway.queue.dead_counts(names)
        quarantine = await gateway.inbox.quarantined(1)
        conditions = await RedisConditions(gateway.link).all()
    except StoreUnavailable as error:
        states = gateway.scaler.states()
        away = {"redis": {"ok": False, "message": str(error)}}
        return {"components": away, "functions": _functions(gateway, states, {}, {}, {})}
    everyone = [gateway.states(), *(await gateway.peers.states()).values()]
    return {
        "components": {
            "redis": {"ok": True, "message": "answers"},
            "fleet": _fleet(gateway),
            **shown(conditions, time.time_ns() // 1_000_000),
        },
        "functions": _functions(gateway, summed(told.get("slots", {}) for told in everyone), depths, retries, dead),
        "warm_slots": summed({"all": told.get("warm", {})} for told in everyone).get("all", {}),
        "gateways": len(everyone),
        "quarantine": {
            "total": quarantine.total,
            "newest": quarantine.newest[0].reason if quarantine.newest else None,
        },
    }


def _fleet(gateway: Gateway) -> dict[str, object]:
    connected = gateway.fleet.connected
    return {"ok": connected, "message": "the controller deals slots" if connected else "no link to the controller"}


def shown(conditions: Mapping[str, Condition], now_ms: int) -> dict[str, dict[str, object]]:
    """What the controller and the jobs said of themselves and of MinIO, each with how long ago that was."""
    longest_s = max(PERIODS_S.values())
    return {
        part: _shown(condition, (now_ms - condition.at_ms) / 1000, PERIODS_S.get(part, longest_s))
        for part, condition in conditions.items()
    }


def _shown(condition: Condition, age_s: float, period_s: float) -> dict[str, object]:
    seconds_ago = max(0, round(age_s))
    if age_s > MISSED * period_s:
        return {"ok": False, "message": f"silent for {seconds_ago} s", "seconds_ago": seconds_ago}
    return {"ok": condition.ok, "message": condition.message, "seconds_ago": seconds_ago}


def summed(counts: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Counts of counts, added up over all gateways."""
    totals: dict[str, Counter[str]] = {}
    for told in counts:
        for name, numbers in told.items():
            totals.setdefault(name, Counter()).update(numbers)
    return {name: dict(numbers) for name, numbers in totals.items()}


def _functions(
    gateway: Gateway,
    states: Mapping[str, Mapping[str, int]],
    depths: Mapping[str, tuple[int, int]],
    retries: Mapping[str, tuple[int, int]],
    dead: Mapping[str, int],
) -> list[dict[str, Any]]:
    return [
        {
            "name": function.name,
            "state": function.state,
            "paused": function.paused,
            "reason": function.state_reason or function.last_update_reason or None,
            "slots": states.get(function.name, {"idle": 0, "busy": 0, "starting": 0, "waiting": 0}),
            "queued": depths.get(function.name, (0, 0))[0],
            "oldest_ms": depths.get(function.name, (0, 0))[1],
            "retrying": retries.get(function.name, (0, 0))[0],
            "next_retry_ms": retries.get(function.name, (0, 0))[1] or None,
            "dead_letters": dead.get(function.name, 0),
        }
        for function in sorted(gateway.catalogue.functions(), key=lambda function: function.name)
    ]
