"""`okiba status` in one answer: what runs, what waits, what went wrong; what cannot be had is told as such."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from okiba.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from okiba.apps.gateway.process import Gateway

CONDITIONS: Final = "okiba:conditions"


async def status(gateway: Gateway) -> Mapping[str, Any]:
    """The answer of `GET /okiba/v1/status`."""
    names = [function.name for function in gateway.catalogue.functions()]
    try:
        depths = await gateway.queue.depths(names)
        dead = await gateway.queue.dead_counts(names)
        quarantine = await gateway.inbox.quarantined(1)
        conditions = await _conditions(gateway)
    except StoreUnavailable as error:
        return {"components": {"redis": {"ok": False, "message": str(error)}}, "functions": _functions(gateway, {}, {})}
    return {
        "components": {
            "redis": {"ok": True, "message": "answers"},
            "fleet": _fleet(gateway),
            **conditions,
        },
        "functions": _functions(gateway, depths, dead),
        "warm_slots": gateway.fleet.warm(),
        "quarantine": {
            "total": quarantine.total,
            "newest": quarantine.newest[0].reason if quarantine.newest else None,
        },
    }


def _fleet(gateway: Gateway) -> dict[str, object]:
    connected = gateway.fleet.connected
    return {"ok": connected, "message": "the controller deals slots" if connected else "no link to the controller"}


async def _conditions(gateway: Gateway) -> dict[str, Any]:
    """What the controller and the jobs say of themselves and of MinIO."""
    told = await gateway.link.call("HGETALL", CONDITIONS)
    return {name.decode(): json.loads(text) for name, text in zip(told[::2], told[1::2], strict=True)}


def _functions(
    gateway: Gateway, depths: Mapping[str, tuple[int, int]], dead: Mapping[str, int]
) -> list[dict[str, Any]]:
    states = gateway.scaler.states()
    return [
        {
            "name": function.name,
            "state": function.state,
            "reason": function.state_reason or function.last_update_reason or None,
            "slots": states.get(function.name, {"idle": 0, "busy": 0, "starting": 0, "waiting": 0}),
            "queued": depths.get(function.name, (0, 0))[0],
            "oldest_ms": depths.get(function.name, (0, 0))[1],
            "dead_letters": dead.get(function.name, 0),
        }
        for function in sorted(gateway.catalogue.functions(), key=lambda function: function.name)
    ]
