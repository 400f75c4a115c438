"""Makes a function's slot out of a warm one: `ports.SlotOpener`. What a slot is told, it is told here."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from okiba.adapters import slot_http
from okiba.adapters.slot_http import HttpSlot, Telemetry
from okiba.adapters.slot_parts import SlotParts
from okiba.core.errors import PlatformError
from okiba.core.function import LATEST, Function
from okiba.core.names import Home
from okiba.ports import Logs, Principal, Slot, SlotAddress

INIT_MS: Final = 10_000
GREETING_MARGIN_S: Final = 2.0


class HttpSlotOpener:
    """Opens slots.

    Args:
        epoch: In which this gateway owns a function; higher than every former owner's.
        platform_key: What grants are derived from, so that the next life can compute them.
        parts: Tells where code, layers and packages are.
        principal: The function's own key pair, as its worker gets it.
        endpoints: Variables that point AWS's clients here, `AWS_ENDPOINT_URL` and the like.
        learned: Told a layer's hash and the modules that its first worker imported.
        fleet_s: How long the fleet may take to say why a slot has ended whose agent cannot tell.
    """

    def __init__(
        self,
        epoch: Callable[[str], int],
        platform_key: str,
        parts: SlotParts,
        home: Home,
        principal: Callable[[Function], Principal | None],
        endpoints: dict[str, str],
        logs: Logs,
        learned: Callable[[str, tuple[str, ...]], None],
        fleet_s: float = 0.0,
    ) -> None:
        self._epoch = epoch
        self._platform_key = bytes.fromhex(platform_key)
        self._parts = parts
        self._home = home
        self._principal = principal
        self._endpoints = endpoints
        self._logs = logs
        self._learned = learned
        self._fleet_s = fleet_s
        # A slot lives as long as somebody asks it or reads its log: a dead one's last lines can still be had.
        self._open: weakref.WeakValueDictionary[str, HttpSlot] = weakref.WeakValueDictionary()

    async def open(self, address: SlotAddress, function: Function, on_dead: Callable[[Slot], None]) -> Slot:
        """Specialised if `address` names no function yet, connected, greeted.

        Raises:
            SlotLost: The slot is gone, refuses, or did not greet.
        """
        adopted = bool(address.function)
        revision = address.revision if adopted else function.revision
        named = SlotAddress(address.id, address.kind, address.address, function.name, revision)
        slot = HttpSlot(named, self.grant(address.id), self._on_telemetry, on_dead, self._fleet_s)
        self._open[slot.id] = slot
        busy_s = function.timeout_s if adopted else 0  # an adopted worker greets when its handler has ended
        specialization = None if adopted else await self._specialization(function, slot.id)
        await slot.open(self._epoch(function.name), specialization, INIT_MS / 1000 + GREETING_MARGIN_S + busy_s)
        return slot

    async def running(self, address: SlotAddress) -> str:
        """The request id that runs in a slot of an earlier life, or empty."""
        try:
            return await slot_http.running(address.address, self.grant(address.id))
        except PlatformError:
            return ""

    def gone(self, slot_id: str, reason: str) -> None:
        """The fleet says that a slot has ended: a call that was in it wants to know why."""
        slot = self._open.get(slot_id)
        if slot is not None:
            slot.told_gone(reason)

    def grant(self, slot_id: str) -> str:
        """What proves to a slot that its caller is the platform."""
        return hmac.new(self._platform_key, f"grant:{slot_id}".encode(), hashlib.sha256).hexdigest()

    async def _specialization(self, function: Function, slot_id: str) -> dict[str, Any]:
        stream = f"{datetime.now(UTC):%Y/%m/%d}/[{LATEST}]{secrets.token_hex(16)}"
        return {
            "epoch": self._epoch(function.name),
            "grant": self.grant(slot_id),
            "function": {
                "name": function.name,
                "version": LATEST,
                "arn": self._home.arn(function.name),
                "handler": function.handler,
                "memory_mb": function.memory_mb,
                "timeout_ms": function.timeout_s * 1000,
                "log_group": f"/aws/lambda/{function.name}",
                "log_stream": stream,
            },
            "environment": {**self._platform_variables(function), **function.environment},
            **await self._parts.of(function),
            "init_ms": INIT_MS,
        }

    def _platform_variables(self, function: Function) -> dict[str, str]:
        """Region, endpoints and the function's own keys. No session token: MinIO would take it for STS's."""
        principal = self._principal(function)
        keys = (
            {"AWS_ACCESS_KEY_ID": principal.access_key, "AWS_SECRET_ACCESS_KEY": principal.secret} if principal else {}
        )
        region = {"AWS_REGION": self._home.region, "AWS_DEFAULT_REGION": self._home.region}
        return {**region, **self._endpoints, **keys}

    # --- logs -------------------------------------------------------------------------------------------------------

    async def _on_telemetry(self, slot: HttpSlot, beat: Telemetry) -> bool:
        """Keeps output; False when the store is away, and it has to be asked for again."""
        layer_hash = slot.address.kind.partition("+")[2]
        if beat.preload and layer_hash:
            self._learned(layer_hash, beat.preload)
        if not beat.log and not beat.log_dropped:
            return True
        name, at_ms = slot.address.function, beat.log_time_ms
        try:
            await self._logs.append(name, slot.id, beat.log_from, at_ms, beat.log, beat.log_dropped)
        except PlatformError:
            return False
        return True

    async def tail(self, slot_id: str, request_id: str) -> bytes:
        """At most the last 4 KB that the invocation wrote, platform's lines included."""
        slot = self._open.get(slot_id)
        if slot is None:
            return b""
        written = await slot.log_tail(max(0, slot.log_offset - 64 * 1024))
        start = written.rfind(f"START RequestId: {request_id}".encode())
        return written[max(start, 0) :][-4096:]
