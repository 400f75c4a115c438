"""The object store as the platform uses it: packages by content in a bucket of its own, and buckets for users.

Everything here blocks and is meant for a thread (`asyncio.to_thread`). Each request has deadlines on connecting and
on every read; a transfer has one as a whole. Nobody else's user may be given the platform's bucket.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from okiba.core.errors import InvalidParameter, NotFound, RequestTooLarge, StoreUnavailable
from okiba.core.s3_policy import PLATFORM_BUCKET
from okiba.settings import Settings

BUCKET: Final = PLATFORM_BUCKET

CONNECT_S: Final = 2.0
READ_S: Final = 10.0
TRANSFER_S: Final = 120.0
MAX_PACKAGE: Final = 262_144_000  # Lambda's 250 MB for a zip that comes from a bucket
LOCATION_TTL: Final = timedelta(minutes=10)  # Lambda's, of GetFunction's Code.Location

_PIECE: Final = 256 * 1024
_ABSENT: Final = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchVersion"})


def code_key(sha256: str) -> str:
    """Where a package's zip lies in the platform's bucket."""
    return f"code/{sha256}.zip"


class S3Store:
    """One object store, by the platform's key.

    Args:
        endpoint: Where the platform reaches it.
        public_endpoint: Where users reach it; presigned addresses name it.
    """

    def __init__(self, endpoint: str, public_endpoint: str, access_key: str, secret_key: str, region: str) -> None:
        self._client = _client(endpoint, access_key, secret_key, region)
        self._public = _client(public_endpoint, access_key, secret_key, region)

    @classmethod
    def of(cls, settings: Settings) -> S3Store:
        """The store that the settings name."""
        public = settings.s3_function_endpoint or settings.s3_endpoint
        return cls(settings.s3_endpoint, public, settings.s3_access_key, settings.s3_secret_key, settings.region)

    def create_bucket(self, bucket: str) -> bool:
        """The bucket exists when this returns; False if it did before.

        Raises:
            InvalidParameter: The store refuses the name.
        """
        with _translated(bucket):
            try:
                self._client.make_bucket(bucket)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
                return False
            return True

    def put(self, key: str, path: Path) -> None:
        """The file's content is stored under the key; what names its content is not sent twice."""
        if self.exists(key):
            return
        with _translated(key):
            try:
                self._client.fput_object(BUCKET, key, str(path))
            except S3Error as error:
                if error.code != "NoSuchBucket":
                    raise
                self.create_bucket(BUCKET)
                self._client.fput_object(BUCKET, key, str(path))

    def exists(self, key: str) -> bool:
        """Whether something is stored under the key."""
        try:
            with _translated(key):
                self._client.stat_object(BUCKET, key)
        except NotFound:
            return False
        return True

    def get(self, key: str, path: Path) -> None:
        """The stored content is in the file when this returns.

        Raises:
            NotFound: Nothing is stored under the key.
        """
        self.fetch(BUCKET, key, "", path, MAX_PACKAGE)

    def fetch(self, bucket: str, key: str, version: str, path: Path, limit: int) -> None:
        """An object of any bucket is in the file when this returns.

        Args:
            version: Version id, or empty for the newest.
            limit: Most bytes that are taken.

        Raises:
            NotFound: There is no such object.
            RequestTooLarge: It is larger.
            StoreUnavailable: Also when the whole took over TRANSFER_S.
        """
        deadline = time.monotonic() + TRANSFER_S
        with _translated(f"{bucket}/{key}"):
            answer = self._client.get_object(bucket, key, version_id=version or None)
            try:
                _write(answer.stream(_PIECE), path, limit, deadline)
            finally:
                answer.close()
                answer.release_conn()

    def delete(self, key: str) -> None:
        """Nothing is stored under the key when this returns."""
        with _translated(key):
            self._client.remove_object(BUCKET, key)

    def location(self, key: str) -> str:
        """An address under which anybody can read the object for ten minutes; asks nobody, so it need not exist."""
        with _translated(key):
            return self._public.presigned_get_object(BUCKET, key, expires=LOCATION_TTL)


def _client(endpoint: str, access_key: str, secret_key: str, region: str) -> Minio:
    parts = urlsplit(endpoint)
    timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
    # One more try, for a connection that the store has closed while it was idle.
    pool = urllib3.PoolManager(timeout=timeout, maxsize=8, retries=urllib3.Retry(total=1, backoff_factor=0))
    secure = parts.scheme == "https"
    return Minio(
        parts.netloc, access_key=access_key, secret_key=secret_key, secure=secure, region=region, http_client=pool
    )


def _write(pieces: Iterator[bytes], path: Path, limit: int, deadline: float) -> None:
    size = 0
    with path.open("wb") as file:
        for piece in pieces:
            size += len(piece)
            if size > limit:
                raise RequestTooLarge(size, limit, "GetObject")
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"the object store took over {TRANSFER_S:.0f} s for {size} bytes")
            file.write(piece)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Vendors' errors as ours, chained."""
    try:
        yield
    except S3Error as error:
        _raise_for(error, what)
    except (MinioException, HTTPError, OSError) as error:
        raise StoreUnavailable(f"the object store did not answer: {error}") from error
    except ValueError as error:  # what the SDK itself refuses, such as a bucket's name
        raise InvalidParameter(f"{what}: {error}") from error


def _raise_for(error: S3Error, what: str) -> NoReturn:
    if error.code in _ABSENT:
        raise NotFound(f"{what} does not exist in the object store ({error.code})") from error
    if error.code in ("InvalidBucketName", "InvalidArgument"):
        raise InvalidParameter(f"{what}: {error.message}") from error
    raise StoreUnavailable(f"the object store refused {what}: {error.code}: {error.message}") from error
