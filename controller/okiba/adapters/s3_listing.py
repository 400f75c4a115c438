"""A bucket's objects page by page, in the order of their keys; versions and delete markers where it keeps them.

Fulfils `flow.sweep.Listing`. S3 lists by name, so what is new is found by looking at everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.datatypes import Object
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from okiba.core.errors import NotFound, StoreUnavailable
from okiba.core.listing import StoredObject
from okiba.settings import Settings

PAGE: Final = 1_000
"""Objects; S3's own pages have as many."""

CONNECT_S: Final = 2.0
READ_S: Final = 60.0
"""A page of a large bucket may take a store on slow disks this long."""


class S3Listing:
    """The buckets of one store, by the platform's key."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str, region: str) -> None:
        parts = urlsplit(endpoint)
        pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S), retries=urllib3.Retry(1))
        self._client = Minio(
            parts.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=parts.scheme == "https",
            region=region,
            http_client=pool,
        )

    @classmethod
    def of(cls, settings: Settings) -> S3Listing:
        """Of the store that the settings name."""
        return cls(settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key, settings.region)

    async def pages(self, bucket: str, prefix: str = "", after: str = "") -> AsyncIterator[list[StoredObject]]:
        """Everything below the prefix whose key comes behind `after`; a version's key may be in two pages.

        Raises:
            NotFound: There is no such bucket.
            StoreUnavailable: The store is away; to be called again behind the last key that was seen.
        """
        found = await asyncio.to_thread(self._objects, bucket, prefix, after)
        while page := await asyncio.to_thread(_page, found, bucket):
            yield page

    def _objects(self, bucket: str, prefix: str, after: str) -> Iterator[Object]:
        with _translated(bucket):
            versioned = self._client.get_bucket_versioning(bucket).status != "Off"
        found: Iterator[Object] = self._client.list_objects(
            bucket, prefix=prefix or None, recursive=True, start_after=after or None, include_version=versioned
        )
        return found


def _page(found: Iterator[Object], bucket: str) -> list[StoredObject]:
    with _translated(bucket):
        return [_stored(item) for item in islice(found, PAGE)]


def _stored(item: Object) -> StoredObject:
    version = item.version_id or ""
    return StoredObject(
        key=item.object_name or "",
        modified_ms=round(item.last_modified.timestamp() * 1000) if item.last_modified else 0,
        etag=item.etag or "",
        size=item.size or 0,
        version_id="" if version == "null" else version,
        deleted=item.is_delete_marker,
    )


@contextmanager
def _translated(bucket: str) -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        if error.code == "NoSuchBucket":
            raise NotFound(f"bucket {bucket} does not exist in the object store") from error
        raise StoreUnavailable(f"the object store refused to list {bucket}: {error.code}: {error.message}") from error
    except (MinioException, HTTPError, OSError) as error:
        raise StoreUnavailable(f"the object store did not answer: {error}") from error
