"""Every setting of Okiba's processes: unit, default and why. Read once, in `apps`, from the environment.

A field NAME is the variable OKIBA_NAME. `okiba up` and the chart set them; users meet them as options and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from okiba.core.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process needs to know; every default is safe on one laptop."""

    state_dir: Path = Path()
    """Folder of this installation on one machine: credentials, unpacked code, sockets' home."""

    tenant: str = "default"
    """Part of every Redis key's hash tag."""

    account_id: str = "000000000000"
    """The account in ARNs; the one that tools written against local AWS stand-ins expect."""

    region: str = "us-east-1"
    """Region in ARNs and in SigV4 scopes; AWS's own default region for unsigned tools."""

    gateway_address: str = "127.0.0.1:4566"
    """Public AWS port, the one that LocalStack's users have in their scripts."""

    admin_address: str = "127.0.0.1:4567"
    """Webhook, health and metrics; never public."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    """Queues, registry, ledger; `unix:///path` works too."""

    broker_url: str = ""
    """Celery's broker, kept apart from `redis_url` (its keys may be evicted, ours may not)."""

    s3_endpoint: str = "http://127.0.0.1:9000"
    """The object store, as the platform reaches it."""

    s3_function_endpoint: str = ""
    """The object store as functions and users reach it; empty: the same."""

    s3_access_key: str = ""
    """The platform's own (root) key at the object store."""

    s3_secret_key: str = ""
    """Its secret."""

    webhook_token: str = ""
    """Bearer token that MinIO sends with each notification; a webhook without it is refused."""

    platform_key: str = ""
    """64 hex digits: encrypts stored secrets and derives slots' grants."""

    fleet_address: str = ""
    """Where the controller deals slots to gateways: `unix:/path` or `tcp:host:port`."""

    require_signatures: bool = True
    """SigV4 on the public port. Off is allowed on loopback alone, for measuring and for tools that cannot sign."""

    default_concurrency: int = 100
    """Slots a function without ReservedConcurrentExecutions may have (Lambda: 1,000 an account; this is a machine)."""

    async_width: int = 16
    """Slots that a backlog alone may make a function use; callers who wait may use all up to its limit. A queue of
    5,000 photos must not become 100 processes on two cores. `okiba up` sets 8 a core."""

    slot_wait_ms: int = 10_000
    """How long a call below its function's limit waits for a slot."""

    idle_slot_ms: int = 120_000
    """A slot without calls for so long is given up."""

    warm_slots: int = 4
    """Warm slots kept per Python version in use."""

    warm_layer_slots: int = 1
    """Warm slots kept per layer, with its modules imported."""

    warm_layers: int = 4
    """At most so many layers, those used last, have warm slots."""

    max_slots: int = 200
    """Slots on this machine, warm ones included: a bound for its memory (a warm slot takes a few MB) and processes."""

    lifeline_fd: int = 0
    """A descriptor inherited from `okiba up`, passed on to every slot: they end when the supervisor does. 0: none."""

    log_level: str = "info"
    """How much the processes write about themselves: debug, info, warning or error."""

    retry_delays_ms: str = "60000,120000"
    """Waits before the retries of an asynchronous function error; Lambda's 1 and 2 minutes."""

    dedupe_ms: int = 604_800_000
    """How long a settled bucket event is remembered: 7 days, longer than any repair looks back."""

    log_bytes: int = 1_048_576
    """Output kept per function."""

    def __post_init__(self) -> None:
        delays = self.retry_delays_ms.split(",")
        if len(delays) != 2 or not all(delay.strip().isdigit() for delay in delays):
            raise InvalidParameter(
                f"OKIBA_RETRY_DELAYS_MS must be two numbers as in '60000,120000', got {self.retry_delays_ms!r}"
            )

    def check_loopback(self) -> None:
        """Returns if nobody but this machine can reach an unsigned public port.

        Raises:
            InvalidParameter: OKIBA_REQUIRE_SIGNATURES is false and the public port is not on loopback.
        """
        host = self.gateway_address.rpartition(":")[0]
        if not self.require_signatures and host not in {"127.0.0.1", "localhost", "[::1]"}:
            raise InvalidParameter(
                f"OKIBA_REQUIRE_SIGNATURES=false needs OKIBA_GATEWAY_ADDRESS on 127.0.0.1, got {self.gateway_address!r}"
            )

    @property
    def retry_delays(self) -> tuple[int, int]:
        """Milliseconds before the first and the second retry."""
        first, second = self.retry_delays_ms.split(",")
        return int(first), int(second)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings that OKIBA_* variables describe.

        Raises:
            InvalidParameter: A value does not fit its field, or an OKIBA_* variable names no field.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            raw = environment.get(f"OKIBA_{field.name.upper()}")
            if raw is not None:
                values[field.name] = _parsed(field.name, str(field.type), raw)
        return cls(**values)


def _parsed(name: str, kind: str, raw: str) -> object:
    if kind == "int":
        if not raw.isdigit():
            raise InvalidParameter(f"OKIBA_{name.upper()} must be a whole number, got {raw!r}")
        return int(raw)
    if kind == "bool":
        if raw.lower() not in {"true", "false"}:
            raise InvalidParameter(f"OKIBA_{name.upper()} must be true or false, got {raw!r}")
        return raw.lower() == "true"
    return Path(raw) if kind == "Path" else raw
