"""How a package comes in: with the request or from a bucket, read by a child process, stored by its content."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import Request

from okiba.adapters import package_child
from okiba.adapters.package_zip import Package
from okiba.adapters.s3_store import MAX_PACKAGE, code_key
from okiba.apps.gateway.lambda_fields import text
from okiba.apps.gateway.services import ControlServices
from okiba.core.errors import AccessDenied, InvalidParameter, NotFound, RequestTooLarge, Unsupported
from okiba.core.s3_policy import PLATFORM_BUCKET

MAX_UPLOAD: Final = 69_905_067
"""Lambda's limit of a request with code: 50 MB in base64."""

UPLOAD_S: Final = 600.0
_WRITE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Deployment:
    """A request that carries code, or says where it is.

    Args:
        fields: The body without its ZipFile.
        package: What ZipFile was; its zip lies in `folder`.
    """

    fields: dict[str, Any]
    package: Package | None
    folder: Path


@dataclass(frozen=True, slots=True)
class BucketObject:
    """Where a package is to be fetched from."""

    bucket: str
    key: str
    version: str = ""

    @property
    def arn(self) -> str:
        """What the caller must be allowed to read: the platform fetches nothing for him that he could not."""
        return f"arn:aws:s3:::{self.bucket}/{self.key}"


@asynccontextmanager
async def deployment(request: Request, services: ControlServices, operation: str) -> AsyncIterator[Deployment]:
    """The request's body, read in a folder that is gone when the block ends.

    Raises:
        RequestTooLarge: It is over 69,905,067 bytes.
        InvalidRequestContent: It is no JSON object.
        InvalidParameter: The package is refused.
    """
    folder = Path(tempfile.mkdtemp(dir=services.spool))
    try:
        await _spool(request, folder / "body", operation)
        async with services.readers:
            upload = await package_child.read_body(folder / "body", folder)
        yield Deployment(upload.fields, upload.package, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def stored_package(request: Request, services: ControlServices, source: Deployment) -> Package:
    """The deployment's package, in the object store when this returns.

    Raises:
        InvalidParameter: None was named, or it cannot be had, or it is refused.
        AccessDenied: The caller may not read the bucket.
    """
    package = await checked_package(request, services, source)
    zip_file = source.folder / f"{package.sha256}.zip"
    await asyncio.to_thread(services.store.put, code_key(package.sha256), zip_file)
    return package


async def checked_package(request: Request, services: ControlServices, source: Deployment) -> Package:
    """The deployment's package, checked but not stored; raises as `stored_package`."""
    code = code_fields(source.fields)
    if source.package is not None:
        if code.get("S3Bucket") or code.get("S3Key"):
            raise InvalidParameter("Please do not provide other FunctionCode parameters when providing a ZipFile.")
        return source.package
    place = _place(code)
    await services.authorise(request, "s3:GetObject", place.arn)
    return await _fetched(services, place, source.folder)


def code_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the request says what its code is: in `Code` at creation, beside everything else in an update.

    Raises:
        InvalidParameter: `Code` is no object.
        Unsupported: It is a container image, or encrypted by a KMS key.
    """
    code = fields.get("Code", fields)
    if not isinstance(code, dict):
        raise InvalidParameter(f"Code must be an object, got {code!r:.100}")
    if code.get("ImageUri"):
        raise Unsupported("ImageUri: container images are not supported; deploy a zip")
    if code.get("SourceKMSKeyArn"):
        raise Unsupported("SourceKMSKeyArn: KMS keys are not supported")
    if code.get("S3ObjectStorageMode") not in (None, "COPY"):
        raise Unsupported("S3ObjectStorageMode: code is always copied; it must be COPY")
    return code


def _place(code: Mapping[str, Any]) -> BucketObject:
    if not code.get("S3Bucket") or not code.get("S3Key"):
        raise InvalidParameter("Please provide a source for function code.")
    bucket = text(63, r"[0-9A-Za-z\.\-_]{2,62}[0-9A-Za-z\-_]")(code["S3Bucket"], "S3Bucket")
    if bucket == PLATFORM_BUCKET:
        raise AccessDenied(f"bucket {bucket} is the platform's own; no function's code is taken from it")
    version = text(1024)(code.get("S3ObjectVersion") or "", "S3ObjectVersion")
    return BucketObject(bucket, text(1024)(code["S3Key"], "S3Key"), version)


async def _fetched(services: ControlServices, place: BucketObject, folder: Path) -> Package:
    fetched = folder / "fetched.zip"
    try:
        await asyncio.to_thread(
            services.store.fetch, place.bucket, place.key, place.version, fetched, limit=MAX_PACKAGE
        )
    except NotFound as error:
        raise InvalidParameter(
            f"Error occurred while GetObject. S3 Error Message: {place.bucket}/{place.key[:256]} does not exist."
        ) from error
    async with services.readers:
        return await package_child.read_zip(fetched, folder)


async def _spool(request: Request, path: Path, operation: str) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_UPLOAD:
        raise RequestTooLarge(int(announced), MAX_UPLOAD, operation)
    size, waiting = 0, bytearray()
    with path.open("wb") as file:
        async with asyncio.timeout(UPLOAD_S):
            async for piece in request.stream():
                size += len(piece)
                if size > MAX_UPLOAD:
                    raise RequestTooLarge(size, MAX_UPLOAD, operation)
                waiting += piece
                if len(waiting) >= _WRITE:
                    await asyncio.to_thread(file.write, bytes(waiting))
                    waiting.clear()
        file.write(waiting)
