"""The registry and the keys in Redis (`ports.Registry`, `ports.Keys`).

    okiba:{tenant/NAME}:function   a function's record, JSON; what a script of ours touches
    okiba:functions                set of names: where to look for records; may name one that is gone
    okiba:keys                     hash: access key → {"name", "secret" (sealed), "enabled"}
    okiba:changes                  stream: `what` has changed; newest 10,000

Set and stream lie on other hash tags than the records, so they are written by commands of their own. A crash between
two commands leaves a name without a record (passed over), or a change that nobody was told of: its writer got no
answer and will repeat it, or a follower finds it when he next reads everything.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from okiba.adapters.function_codec import decode, encode
from okiba.adapters.redis_link import RedisLink
from okiba.adapters.vault import Vault
from okiba.core.errors import PlatformError, PreconditionFailed
from okiba.core.function import Function
from okiba.ports import Census, Principal

log = logging.getLogger(__name__)

CHANGES: Final = "okiba:changes"
FUNCTIONS: Final = "okiba:functions"
KEYS: Final = "okiba:keys"

_KEPT_CHANGES: Final = 10_000
_LOOK_BACK_MS: Final = 60_000
_WAIT_MS: Final = 5_000


class RedisRegistry:
    """`ports.Registry` of one tenant."""

    def __init__(self, link: RedisLink, vault: Vault, tenant: str) -> None:
        self._link, self._vault, self._tenant = link, vault, tenant

    async def get(self, name: str) -> Function | None:
        """The function, or None."""
        record = await self._link.call("GET", self._key(name))
        return decode(record, self._vault) if record is not None else None

    async def put(self, function: Function, *, replaces: str | None) -> None:
        """Stores it, and counts its generation up, if revision and generation are still what its writer read.

        Raises:
            PreconditionFailed: Another revision, or a later generation of the same, is there.
        """
        await self._link.call("SADD", FUNCTIONS, function.name)
        record = encode(replace(function, generation=function.generation + 1), self._vault)
        arguments = (replaces or "", function.generation, record)
        if not await self._link.script("registry_put", [self._key(function.name)], arguments):
            raise PreconditionFailed(
                f"Function {function.name} has changed meanwhile: revision {replaces or '(none)'} is not the stored one"
            )
        # Once more: a deletion that ran beside this may have removed the name that was added above.
        await self._link.call("SADD", FUNCTIONS, function.name)
        await _announce(self._link, function.name)

    async def delete(self, name: str) -> bool:
        """Removes the record; False when there was none."""
        gone = await self._link.call("DEL", self._key(name))
        await self._link.call("SREM", FUNCTIONS, name)
        if await self._link.call("EXISTS", self._key(name)):  # made anew just now
            await self._link.call("SADD", FUNCTIONS, name)
        await _announce(self._link, name)
        return bool(gone)

    async def all(self) -> list[Function]:
        """Every function, by name; one whose record is damaged is logged and left out, so that the others go on."""
        return (await self.census()).functions

    async def census(self) -> Census:
        """Every function, by name, and the names of those whose record is damaged, which is logged."""
        names = sorted(name.decode() for name in await self._link.call("SMEMBERS", FUNCTIONS))
        records = await asyncio.gather(*(self._link.call("GET", self._key(name)) for name in names))
        census = Census([], [])
        for name, record in zip(names, records, strict=True):
            if record is not None:
                self._count(census, name, record)
        return census

    def _count(self, census: Census, name: str, record: bytes) -> None:
        try:
            census.functions.append(decode(record, self._vault))
        except PlatformError as error:
            log.error(  # noqa: TRY400 - the reason says it all
                "a function's record is left out", extra={"function": name, "reason": str(error)}
            )
            census.unreadable.append(name)

    async def changes(self) -> AsyncIterator[str]:
        """What has changed, from a minute before the first look on.

        A minute earlier, so that a follower may ask first, read everything, and then look: what he is told twice he
        reads twice.

        Raises:
            StoreUnavailable: Redis is away; it may have lost its last second, so the follower has to read everything.
        """
        position: bytes | str = await self._minute_ago()
        while True:
            for entry, what in await self._after(position):
                position = entry
                yield what

    async def _minute_ago(self) -> str:
        seconds, _ = await self._link.call("TIME")
        return f"{int(seconds) * 1000 - _LOOK_BACK_MS}-0"

    async def _after(self, position: bytes | str) -> list[tuple[bytes, str]]:
        arguments = ("XREAD", "COUNT", 100, "BLOCK", _WAIT_MS, "STREAMS", CHANGES, position)
        answer = await self._link.wait(*arguments, timeout_ms=_WAIT_MS)
        return [(entry, _what(fields)) for entry, fields in answer[0][1]] if answer else []

    def _key(self, name: str) -> str:
        return f"okiba:{{{self._tenant}/{name}}}:function"


class RedisKeys:
    """`ports.Keys`: key pairs, secrets sealed for their own access key."""

    def __init__(self, link: RedisLink, vault: Vault) -> None:
        self._link, self._vault = link, vault

    async def get(self, access_key: str) -> Principal | None:
        """Who the key belongs to, or None."""
        record = await self._link.call("HGET", KEYS, access_key)
        return self._principal(access_key, record) if record is not None else None

    async def put(self, principal: Principal) -> None:
        """Stores the key, or changes it."""
        secret = self._vault.seal(principal.secret, f"secret:{principal.access_key}")
        record = {"name": principal.name, "secret": secret, "enabled": principal.enabled}
        await self._link.call("HSET", KEYS, principal.access_key, json.dumps(record))
        await _announce(self._link, f"key:{principal.access_key}")

    async def delete(self, access_key: str) -> None:
        """The key is valid no more."""
        await self._link.call("HDEL", KEYS, access_key)
        await _announce(self._link, f"key:{access_key}")

    async def all(self) -> list[Principal]:
        """Every key; one whose record is damaged is logged and left out, so that the others stay valid."""
        flat: list[bytes] = await self._link.call("HGETALL", KEYS)
        pairs = zip(flat[::2], flat[1::2], strict=True)
        readable = (self._readable(access_key.decode(), record) for access_key, record in pairs)
        return [principal for principal in readable if principal is not None]

    def _readable(self, access_key: str, record: bytes) -> Principal | None:
        try:
            return self._principal(access_key, record)
        except PlatformError as error:
            log.error("a key's record is left out", extra={"reason": str(error)})  # noqa: TRY400 - as above
            return None

    def _principal(self, access_key: str, text: bytes) -> Principal:
        try:
            record: dict[str, Any] = json.loads(text)
            secret = self._vault.open(record["secret"], f"secret:{access_key}")
            return Principal(access_key, secret, record["name"], record["enabled"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlatformError(f"the record of key {access_key} is damaged: {error!r}") from error


async def _announce(link: RedisLink, what: str) -> None:
    await link.call("XADD", CHANGES, "MAXLEN", "~", _KEPT_CHANGES, "*", "what", what)


def _what(fields: list[bytes]) -> str:
    return fields[fields.index(b"what") + 1].decode()
