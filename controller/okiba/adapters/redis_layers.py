"""Layers' intents in Redis: what is to be built, by whom nobody says, and how far it has come.

    okiba:layer:HASH     hash: requirements, runtime, allow_source, phase, progress, error, changed_ms, attempts,
                         due_ms, preload (comma-separated), used_ms (when a function was last seen to need it),
                         zip_sha256 and zip_bytes (what the object store has, where slots fetch it from there)
    okiba:layers         set: hashes of all that have a hash above
    okiba:layers:open    set: hashes of those wanted or being built; what is sent to a job again and again

The controller writes that a layer is wanted, jobs write the rest, gateways add what slots learned. Whether a layer
is there is said by its folder alone; who may build it, by a lock in the file system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import redis

from okiba.adapters.redis_link import RedisLink
from okiba.core.errors import StoreUnavailable
from okiba.core.function import Layer
from okiba.core.layer import LayerArchive, LayerIntent, LayerPhase, layer_retry_ms

KNOWN: Final = "okiba:layers"
OPEN: Final = "okiba:layers:open"
MAX_TEXT: Final = 4_096


class RedisLayers:
    """The controller's and the gateways' side, over the process's link."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def read(self, layer_hash: str) -> LayerIntent | None:
        """The layer's intent, if anyone ever asked for it."""
        flat: list[bytes] = await self._link.call("HGETALL", _key(layer_hash))
        return _intent(layer_hash, dict(zip(flat[::2], flat[1::2], strict=True)))

    async def want(self, layer: Layer, runtime: str, now_ms: int) -> None:
        """The layer is to be built; what was known of earlier attempts is forgotten, what slots learned is not."""
        # The set first: a hash without its place in the set would never be built, the other way round is harmless.
        await self._link.call("SADD", KNOWN, layer.hash)
        await self._link.call("SADD", OPEN, layer.hash)
        await self._link.call("HSET", _key(layer.hash), *_flat(_wanted(layer, runtime, now_ms)))

    async def learned(self, layer_hash: str, modules: Sequence[str]) -> None:
        """A slot with this layer imported these modules out of it."""
        await self._link.call("SADD", KNOWN, layer_hash)
        await self._link.call("HSET", _key(layer_hash), "preload", ",".join(modules))

    async def preload(self, layer_hash: str) -> tuple[str, ...]:
        """The modules that a slot of this layer should import ahead of time; empty until one has learned them."""
        return _modules(await self._link.call("HGET", _key(layer_hash), "preload"))

    async def archive(self, layer_hash: str) -> LayerArchive | None:
        """What the object store has of the layer; None while that is not said."""
        sha256, size = await self._link.call("HMGET", _key(layer_hash), "zip_sha256", "zip_bytes")
        return LayerArchive(sha256.decode(), int(size)) if sha256 and size else None

    async def known(self) -> list[str]:
        """Hashes of all layers that anything was ever written of, and nobody has forgotten."""
        hashes: list[bytes] = await self._link.call("SMEMBERS", KNOWN)
        return [layer_hash.decode() for layer_hash in hashes]

    async def used(self, layer_hash: str, now_ms: int) -> None:
        """A function needs the layer."""
        await self._link.call("SADD", KNOWN, layer_hash)
        await self._link.call("HSET", _key(layer_hash), "used_ms", str(now_ms))

    async def used_ms(self, layer_hash: str) -> int | None:
        """When a function was last seen to need the layer; None where that was never written down."""
        used: bytes | None = await self._link.call("HGET", _key(layer_hash), "used_ms")
        return None if used is None else int(used)

    async def forget(self, layer_hash: str) -> None:
        """Nothing is known of the layer any more, and nobody builds it."""
        await self._link.call("SREM", OPEN, layer_hash)
        await self._link.call("UNLINK", _key(layer_hash))
        await self._link.call("SREM", KNOWN, layer_hash)


class LayerBook:
    """The jobs' side: plain calls, since a job has a thread of its own.

    Args:
        client: With socket timeouts, so that no call waits for ever.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def read(self, layer_hash: str) -> LayerIntent | None:
        """The layer's intent, if anyone ever asked for it."""
        return _intent(layer_hash, self._call("HGETALL", _key(layer_hash)))

    def open_intents(self) -> list[LayerIntent]:
        """Everything that is wanted or being built."""
        hashes: set[bytes] = self._call("SMEMBERS", OPEN)
        intents = [self.read(layer_hash.decode()) for layer_hash in sorted(hashes)]
        return [intent for intent in intents if intent and intent.phase in (LayerPhase.WANTED, LayerPhase.BUILDING)]

    def building(self, layer_hash: str, now_ms: int) -> None:
        """A job has begun."""
        self._write(layer_hash, {"phase": LayerPhase.BUILDING, "progress": "", "changed_ms": str(now_ms)})

    def progress(self, layer_hash: str, line: str) -> None:
        """The last line that building it said."""
        self._write(layer_hash, {"progress": line[:MAX_TEXT]})

    def ready(self, layer_hash: str, now_ms: int, archive: LayerArchive | None = None) -> None:
        """The layer lies in its folder, or in the object store as this archive."""
        done = {"phase": LayerPhase.READY, "progress": "", "error": "", "changed_ms": str(now_ms)}
        stored = {"zip_sha256": archive.sha256, "zip_bytes": str(archive.size)} if archive else {}
        self._write(layer_hash, done | stored)
        self._call("SREM", OPEN, layer_hash)

    def failed(self, layer_hash: str, error: str, now_ms: int) -> None:
        """Building it again would end the same way."""
        self._write(layer_hash, {"phase": LayerPhase.FAILED, "error": error[:MAX_TEXT], "changed_ms": str(now_ms)})
        self._call("SREM", OPEN, layer_hash)

    def postpone(self, intent: LayerIntent, error: str, now_ms: int) -> None:
        """Building it failed for a reason that may pass; it is wanted again after a while."""
        attempts = intent.attempts + 1
        fields = {
            "phase": LayerPhase.WANTED,
            "error": error[:MAX_TEXT],
            "changed_ms": str(now_ms),
            "attempts": str(attempts),
            "due_ms": str(now_ms + layer_retry_ms(attempts)),
        }
        self._write(intent.layer.hash, fields)

    def _write(self, layer_hash: str, fields: Mapping[str, str]) -> None:
        self._call("HSET", _key(layer_hash), *_flat(fields))

    def _call(self, *command: str) -> Any:
        try:
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            raise StoreUnavailable(f"Redis: {error}") from error


def _key(layer_hash: str) -> str:
    return f"okiba:layer:{layer_hash}"


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]


def _wanted(layer: Layer, runtime: str, now_ms: int) -> dict[str, str]:
    return {
        "requirements": layer.requirements,
        "runtime": runtime,
        "allow_source": "1" if layer.allow_source else "",
        "phase": LayerPhase.WANTED,
        "progress": "",
        "error": "",
        "changed_ms": str(now_ms),
        "attempts": "0",
        "due_ms": "0",
        "used_ms": str(now_ms),
        "zip_sha256": "",
        "zip_bytes": "",
    }


def _intent(layer_hash: str, fields: Mapping[bytes, bytes]) -> LayerIntent | None:
    """What the fields say; None where nobody asked.

    A hash may hold no more than what slots learned, or what a job wrote of a layer that was forgotten meanwhile.
    """
    text = {name.decode(): value.decode() for name, value in fields.items()}
    if not {"phase", "requirements"} <= text.keys():
        return None
    return LayerIntent(
        layer=Layer(layer_hash, text["requirements"], bool(text["allow_source"])),
        runtime=text["runtime"],
        phase=LayerPhase(text["phase"]),
        progress=text["progress"],
        error=text["error"],
        changed_ms=int(text["changed_ms"]),
        attempts=int(text["attempts"]),
        due_ms=int(text["due_ms"]),
        preload=_modules(fields.get(b"preload")),
        archive=LayerArchive(text["zip_sha256"], int(text["zip_bytes"])) if text.get("zip_sha256") else None,
    )


def _modules(value: bytes | None) -> tuple[str, ...]:
    return tuple(module for module in (value or b"").decode().split(",") if module)
