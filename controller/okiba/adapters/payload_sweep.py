"""Removes large payloads that no work and no dead letter refers to: what crashes and trimmed dead letters left behind.

Everything here blocks and is meant for a job.
"""

from __future__ import annotations

from typing import Any, Final

import redis

from okiba.adapters.s3_store import S3Store
from okiba.core.errors import NotFound, StoreUnavailable
from okiba.core.payload import PREFIX, owner_of_key, reference_of

SETTLED_MS: Final = 3_600_000
"""Younger ones are left alone: their work may be on its way into the queue at this moment."""

_PAGE: Final = 100


class PayloadSweep:
    """One tenant's payloads."""

    def __init__(self, client: redis.Redis, store: S3Store, tenant: str) -> None:
        self._client = client
        self._store = store
        self._tenant = tenant

    def run(self, now_ms: int) -> int:
        """Removes what nothing refers to; how many that were.

        Raises:
            StoreUnavailable: Redis or the object store is away; to be run again.
        """
        try:
            doomed = self._doomed(now_ms)
        except redis.RedisError as error:
            raise StoreUnavailable(f"Redis: {error}") from error
        for key in doomed:
            self._store.delete(key)
        return len(doomed)

    def _doomed(self, now_ms: int) -> list[str]:
        """Keys of payloads that nothing refers to.

        Work is looked for first: it becomes a dead letter, and never the other way round.
        """
        ended: dict[str, list[str]] = {}
        for key in self._settled(now_ms):
            _, function, request_id = owner_of_key(key) or ("", "", "")
            if function and not self._client.exists(self._key(function, f"work:{request_id}")):
                ended.setdefault(function, []).append(key)
        return [key for function, keys in ended.items() for key in sorted({*keys} - self._buried(function))]

    def _settled(self, now_ms: int) -> list[str]:
        try:
            stored = self._store.stored(f"{PREFIX}{self._tenant}/")
        except NotFound:  # nothing was ever put
            return []
        return [key for key, stored_ms in stored if now_ms - stored_ms >= SETTLED_MS]

    def _buried(self, function: str) -> set[str]:
        """Keys that the function's dead letters refer to."""
        keys, after = set(), "-"
        while True:
            entries: Any = self._client.xrange(self._key(function, "dead"), min=after, count=_PAGE)
            for _, fields in entries:
                reference = reference_of(fields[b"payload"])
                if reference is not None:
                    keys.add(reference.key)
            if len(entries) < _PAGE:
                return keys
            after = f"({entries[-1][0].decode()}"

    def _key(self, function: str, part: str) -> str:
        return f"okiba:{{{self._tenant}/{function}}}:{part}"
