"""Every setting of Okiba's processes: unit, default and why. Read once, in `apps`, from the environment.

A field NAME is the variable OKIBA_NAME. `okiba up` and the chart set them; users meet them as options and values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from okiba.core.errors import InvalidParameter

_MISSPELT: Final = 0.85
"""Likeness (difflib's ratio, without OKIBA_) from which a name is taken for a setting's: a letter more or less has 0.94
and above; of what others call their own OKIBA_ENDPOINT comes nearest, with 0.84."""


_PYTHON: Final = re.compile(r"3\.\d{1,2}")


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
    """Queues, registry, ledger: `redis://user:password@host:port/0`, `unix:///path`, `redis+sentinel://host,host/primary`,
    `redis+cluster://host,host`; with TLS `rediss…` (SSL_CERT_FILE names a private authority)."""

    broker_url: str = ""
    """Celery's broker, kept apart from `redis_url` (its keys may be evicted, ours may not). Empty: the second database
    there. A cluster has none, and Celery cannot use one: then this has to name another Redis."""

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

    fleet: str = "local"
    """Where slots are: `local`, processes of this machine; `kubernetes`, containers of pods."""

    fleet_address: str = ""
    """Where the controller deals slots to gateways: `unix:/path` or `tcp:host:port`. A gateway on Kubernetes leaves it
    empty: it reads in Redis where the leading controller is."""

    functions_namespace: str = "okiba-functions"
    """Namespace of slots' pods and of `Function` objects; the chart makes it."""

    slot_image: str = "okiba-slot:0.1.0-python{python}"
    """Image of slots; `{python}` stands for the version, as in 3.11."""

    slot_pythons: str = "3.11"
    """On Kubernetes: the Python versions that there are such images of, as in `3.11,3.12`; functions of others are
    refused. On one machine it is the interpreters that are installed."""

    slot_pod: Path = Path()
    """A JSON file with what the operator chose for slots' pods: pull secrets, tolerations, runtime class, images by
    digest. Without one, Kubernetes' own defaults."""

    slot_cpu_floor_m: int = 1_000
    """A slot may use so many thousandths of a core even where Lambda's share of MemorySize is less (128 MB: 72), which
    as a hard quota makes a call of 10 ms take 100 ms. 0: Lambda's share exactly, from when a slot is taken; until then
    it may use a core, as on Lambda. That takes a cluster that resizes containers in place (Kubernetes 1.33)."""

    slot_request_percent: int = 10
    """Of a slot's limits, what its pod requests of a node. 100 reserves everything; the default packs idle slots."""

    pod_name: str = ""
    """This process's pod, by which it campaigns to lead; empty: the host's name."""

    pod_namespace: str = ""
    """Namespace of this process's pod, where the controllers' Lease is; empty: what the service account says."""

    code_from: str = "folder"
    """How slots get code and layers: `folder`, they share the state folder; `store`, they fetch from the object
    store."""

    gateway_name: str = ""
    """This gateway's name among gateways, its pod's; empty: `gateway`."""

    gateway_peer_address: str = ""
    """host:port at which other gateways reach this one's admin port; empty: it is alone."""

    gateway_function_endpoint: str = ""
    """The public AWS port's URL as functions are told it; empty: made of `gateway_address`."""

    s3_webhook_url: str = ""
    """How the object store reaches the admin port, for what `okiba doctor` prints; empty: made of `admin_address`."""

    require_signatures: bool = True
    """SigV4 on the public port. Off is allowed on loopback alone, for measuring and for tools that cannot sign."""

    default_concurrency: int = 100
    """Slots a function without ReservedConcurrentExecutions may have (Lambda: 1,000 an account; this is a machine)."""

    async_width: int = 16
    """Slots that a backlog alone may make a function use; callers who wait may use all up to its limit. A queue of
    5,000 photos must not become 100 processes on two cores. `okiba up` sets 8 a core."""

    slot_wait_ms: int = 10_000
    """How long a call below its function's limit waits for a slot."""

    grace_ms: int = 10_000
    """How long a gateway that is told to stop goes on for those who are being answered. The chart makes it of the pod's
    own grace."""

    idle_slot_ms: int = 120_000
    """A slot without calls for so long is given up."""

    warm_slots: int = 4
    """Warm slots kept per Python version in use (on Kubernetes: and memory class)."""

    warm_slots_cap: int = 8
    """On Kubernetes a pool grows with use up to so many warm slots, and shrinks to `warm_slots` without."""

    warm_layer_slots: int = 1
    """Warm slots kept per layer, with its modules imported."""

    warm_layers: int = 4
    """At most so many layers, those used last, have warm slots."""

    unused_layer_ms: int = 604_800_000
    """A layer that no function has needed for so long is removed: 7 days."""

    max_slots: int = 200
    """Slots in all, warm ones included: a bound for memory (a warm slot takes a few MB) and processes."""

    lifeline_fd: int = 0
    """A descriptor inherited from `okiba up`, passed on to every slot: they end when the supervisor does. 0: none."""

    log_level: str = "info"
    """How much the processes write about themselves: debug, info, warning or error."""

    retry_delays_ms: str = "60000,120000"
    """Waits before the retries of an asynchronous function error; Lambda's 1 and 2 minutes."""

    dedupe_ms: int = 604_800_000
    """How long a settled bucket event is remembered: 7 days, longer than any repair looks back."""

    sweep_every_ms: int = 3_600_000
    """Between two passes over all bound buckets for objects that nobody announced; 0: none but after restarts."""

    log_bytes: int = 1_048_576
    """Output kept per function."""

    def __post_init__(self) -> None:
        _one_of("OKIBA_FLEET", self.fleet, ("local", "kubernetes"))
        _one_of("OKIBA_CODE_FROM", self.code_from, ("folder", "store"))
        if not all(_PYTHON.fullmatch(version) for version in self.slot_pythons.split(",")):
            raise InvalidParameter(f"OKIBA_SLOT_PYTHONS must be versions as in '3.11,3.12', got {self.slot_pythons!r}")
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
    def slot_runtimes(self) -> tuple[str, ...]:
        """The runtimes that slots' images exist for."""
        return tuple(f"python{version}" for version in self.slot_pythons.split(","))

    @property
    def retry_delays(self) -> tuple[int, int]:
        """Milliseconds before the first and the second retry."""
        first, second = self.retry_delays_ms.split(",")
        return int(first), int(second)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings that OKIBA_* variables describe.

        Others have variables of that prefix too: commands, compose files, and Kubernetes for every service. So of those
        that name no field the ones are refused that nearly do.

        Raises:
            InvalidParameter: A value does not fit its field, or an OKIBA_* variable is a field's name misspelt.
        """
        _check_spelling(environment, [field.name.upper() for field in fields(cls)])
        values: dict[str, Any] = {}
        for field in fields(cls):
            raw = environment.get(f"OKIBA_{field.name.upper()}")
            if raw is not None:
                values[field.name] = _parsed(field.name, str(field.type), raw)
        return cls(**values)


def _check_spelling(environment: Mapping[str, str], known: list[str]) -> None:
    named = {name.removeprefix("OKIBA_") for name in environment if name.startswith("OKIBA_")}
    for name in sorted(named - set(known)):
        if meant := get_close_matches(name, known, n=1, cutoff=_MISSPELT):
            raise InvalidParameter(f"OKIBA_{name} is no setting; OKIBA_{meant[0]} is one")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidParameter(f"{name} must be {' or '.join(allowed)}, got {value!r}")


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
