"""What has to be true in the stores before the platform starts; a process of its own that ends when it is.

The user's key pair is made known to both who check it: Okiba's key store, and MinIO as a user who may read and write
every bucket. The platform's own bucket exists. All of it may be done again and again. The pair is the state folder's,
or the environment's: OKIBA_ADMIN_ACCESS_KEY and OKIBA_ADMIN_SECRET_KEY, where a cluster's Secret has it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, MinioException
from urllib3 import PoolManager, Retry
from urllib3.exceptions import HTTPError

from okiba.adapters.redis_link import RedisLink
from okiba.adapters.redis_registry import RedisKeys
from okiba.adapters.vault import Vault
from okiba.apps.local.credentials import Credentials, read_credentials
from okiba.core.errors import StoreUnavailable
from okiba.ports import Principal
from okiba.settings import Settings

PLATFORM_BUCKET: Final = "okiba"
ADMIN: Final = "admin"

STORE_S: Final = 30.0
"""MinIO says that it is ready while its user database still loads; that is over within a second, on slow disks ten."""


async def register_admin(settings: Settings, credentials: Credentials) -> None:
    """Okiba knows the user's key pair."""
    link = await _linked(settings.redis_url)
    try:
        keys = RedisKeys(link, Vault(settings.platform_key))
        await keys.put(Principal(credentials.admin_access_key, credentials.admin_secret_key, ADMIN))
    finally:
        await link.close()


async def _linked(redis_url: str) -> RedisLink:
    deadline = time.monotonic() + STORE_S
    while True:
        try:
            return await RedisLink.open(redis_url)
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


def prepare_object_store(settings: Settings, credentials: Credentials) -> None:
    """MinIO knows the user's key pair, and has the platform's bucket.

    Raises:
        StoreUnavailable: It refuses, or is not ready in time.
    """
    deadline = time.monotonic() + STORE_S
    while True:
        try:
            _prepare_once(settings, credentials)
        except (MinioException, MinioAdminException, HTTPError) as error:
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"MinIO did not let itself be prepared within {STORE_S:g} s: {error}") from error
            time.sleep(0.1)
        else:
            return


def _prepare_once(settings: Settings, credentials: Credentials) -> None:
    endpoint = urlsplit(settings.s3_endpoint)
    host, secure = endpoint.netloc, endpoint.scheme == "https"
    # Without urllib3's own retries: they would hide what is wrong behind two minutes of silence.
    pool = PoolManager(timeout=5, retries=Retry(0))
    root = StaticProvider(settings.s3_access_key, settings.s3_secret_key)
    store = Minio(host, credentials=root, secure=secure, region=settings.region, http_client=pool)
    if not store.bucket_exists(PLATFORM_BUCKET):
        store.make_bucket(PLATFORM_BUCKET)
    users = MinioAdmin(endpoint=host, credentials=root, region=settings.region, secure=secure, http_client=pool)
    users.user_add(credentials.admin_access_key, credentials.admin_secret_key)
    users.policy_set("readwrite", user=credentials.admin_access_key)


def _credentials(settings: Settings, environment: Mapping[str, str]) -> Credentials:
    access_key, secret_key = (environment.get(f"OKIBA_ADMIN_{part}_KEY", "") for part in ("ACCESS", "SECRET"))
    if not (access_key and secret_key):
        return read_credentials(settings.state_dir)
    return Credentials(
        access_key,
        secret_key,
        settings.s3_access_key,
        settings.s3_secret_key,
        settings.webhook_token,
        settings.platform_key,
    )


def main() -> None:
    """Does it all, by the settings in the environment."""
    settings = Settings.from_environment(os.environ)
    credentials = _credentials(settings, os.environ)
    prepare_object_store(settings, credentials)
    asyncio.run(register_admin(settings, credentials))


if __name__ == "__main__":
    main()
