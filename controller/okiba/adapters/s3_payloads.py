"""Large payloads in the platform's bucket, while their work is open and for as long as it is a dead letter.

Put before the work is accepted, so that accepted work always has its payload; removed after the work's end. What a
crash between the two leaves behind, `payload_sweep` removes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from okiba.adapters.s3_store import S3Store
from okiba.core.errors import StoreUnavailable
from okiba.core.payload import Reference

DEADLINE_S: Final = 5.0
"""Of each transfer: a megabyte takes 10 ms, and the caller is told to come again."""

THREADS: Final = 4
"""Of their own: a store that hangs must not take the threads that others wait for."""

_Answer = TypeVar("_Answer")


class S3Payloads:
    """What a `RedisQueue` keeps outside of Redis; the queue decides what that is, and when it goes."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(THREADS, "payloads")

    async def keep(self, key: str, payload: bytes) -> Reference:
        """The payload is stored when this returns.

        Raises:
            StoreUnavailable: It may be stored all the same.
        """
        await self._in_thread(lambda: self._store.put_bytes(key, payload))
        return Reference(key, len(payload))

    async def fetch(self, reference: Reference) -> bytes:
        """The payload.

        Raises:
            NotFound: Somebody has removed it.
            StoreUnavailable: The store is away, or what it has is not what was stored.
        """
        payload = await self._in_thread(lambda: self._store.get_bytes(reference.key, reference.size))
        if len(payload) != reference.size:
            raise StoreUnavailable(
                f"{reference.key} has {len(payload)} bytes in the object store, not {reference.size}"
            )
        return payload

    async def drop(self, reference: Reference) -> None:
        """The payload is gone.

        Raises:
            StoreUnavailable: It stays until the sweep.
        """
        await self._in_thread(lambda: self._store.delete(reference.key))

    async def _in_thread(self, call: Callable[[], _Answer]) -> _Answer:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError as error:
            raise StoreUnavailable(f"the object store took over {DEADLINE_S:.0f} s") from error
