"""The object store as the platform uses it: packages by content in a bucket of its own, and buckets for users.

Everything here blocks and is meant for a thread (`asyncio.to_thread`). Each request has deadlines on connecting and
on every read; a transfer has one as a whole. Nobody else's user may be given the platform's bucket.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Final, NoReturn
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
_DIGEST: Final = "sha256"
_ABSENT: Final = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchVersion"})


def code_key(sha256: str) -> str:
    """Where a package's zip lies in the platform's bucket."""
    return f"code/{sha256}.zip"


def layer_key(layer_hash: str) -> str:
    """Where a layer's zip lies in the platform's bucket."""
    return f"layers/{layer_hash}.zip"


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
            self._in_bucket(lambda: self._client.fput_object(BUCKET, key, str(path)))

    def replace(self, key: str, path: Path, sha256: str) -> None:
        """The file's content is stored under the key, instead of what was there, with its digest beside it."""
        with _translated(key):
            told: dict[str, str | list[str] | tuple[str]] = {_DIGEST: sha256}
            self._in_bucket(lambda: self._client.fput_object(BUCKET, key, str(path), metadata=told))

    def digest(self, key: str) -> str:
        """The digest that `replace` has put beside the content; empty where there is none, or nothing is stored."""
        try:
            with _translated(key):
                told = self._client.stat_object(BUCKET, key).metadata or {}
        except NotFound:
            return ""
        return str(told.get(f"x-amz-meta-{_DIGEST}", ""))

    def put_bytes(self, key: str, content: bytes) -> None:
        """The content is stored under the key, instead of what was there."""
        with _translated(key):
            self._in_bucket(lambda: self._client.put_object(BUCKET, key, io.BytesIO(content), len(content)))

    def _in_bucket(self, put: Callable[[], object]) -> None:
        """Puts, and makes the bucket first if it is not there yet."""
        try:
            put()
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            self.create_bucket(BUCKET)
            put()

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

    def get_bytes(self, key: str, limit: int) -> bytes:
        """The stored content.

        Raises:
            NotFound: Nothing is stored under the key.
            RequestTooLarge: It has more than `limit` bytes.
        """
        content = io.BytesIO()
        self._read(BUCKET, key, "", content, limit)
        return content.getvalue()

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
        with path.open("wb") as file:
            self._read(bucket, key, version, file, limit)

    def _read(self, bucket: str, key: str, version: str, into: IO[bytes], limit: int) -> None:
        deadline = time.monotonic() + TRANSFER_S
        with _translated(f"{bucket}/{key}"):
            answer = self._client.get_object(bucket, key, version_id=version or None)
            try:
                _copy(answer.stream(_PIECE), into, limit, deadline)
            finally:
                answer.close()
                answer.release_conn()

    def stored(self, prefix: str) -> list[tuple[str, int]]:
        """Keys below a prefix, each with the wall clock (ms) of when it was stored.

        Raises:
            NotFound: Nothing was ever stored.
        """
        with _translated(prefix):
            found = list(self._client.list_objects(BUCKET, prefix=prefix, recursive=True))
        return [
            (item.object_name, int(item.last_modified.timestamp() * 1000))
            for item in found
            if item.object_name and item.last_modified
        ]

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


def _copy(pieces: Iterator[bytes], into: IO[bytes], limit: int, deadline: float) -> None:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RequestTooLarge(size, limit, "GetObject")
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"the object store took over {TRANSFER_S:.0f} s for {size} bytes")
        into.write(piece)


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
