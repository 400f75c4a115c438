"""Lambda's operations on functions: create, read, list, update, delete."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from okiba.adapters.package_zip import Package
from okiba.adapters.s3_store import code_key
from okiba.apps.gateway.deployment import (
    Deployment,
    checked_package,
    code_fields,
    deployment,
    stored_package,
)
from okiba.apps.gateway.lambda_fields import (
    configuration_changes,
    constraint,
    refuse_unsupported,
    text,
)
from okiba.apps.gateway.lambda_shapes import configuration, listed
from okiba.apps.gateway.services import (
    ControlServices,
    answer_json,
    check_revision,
    json_body,
)
from okiba.core.errors import (
    Conflict,
    InvalidParameter,
    NotFound,
)
from okiba.core.function import LATEST, Function, to_prepare
from okiba.core.layer import layer_of
from okiba.core.names import FunctionReference, resolve
from okiba.flow import deploy
from okiba.flow.deploy import API

FUNCTIONS: Final = "/2015-03-31/functions"
MAX_PAGE: Final = 50  # AWS answers no more, whatever MaxItems says


class LambdaApi:
    """The operations, one method each."""

    def __init__(self, services: ControlServices) -> None:
        self._services = services

    def router(self) -> APIRouter:
        """Where they are."""
        router = APIRouter()
        router.add_api_route(FUNCTIONS, self.create, methods=["POST"])
        router.add_api_route(FUNCTIONS, self.list, methods=["GET"])
        router.add_api_route(FUNCTIONS + "/", self.list, methods=["GET"])  # as older SDKs ask
        router.add_api_route(FUNCTIONS + "/{name}", self.get, methods=["GET"])
        router.add_api_route(FUNCTIONS + "/{name}", self.delete, methods=["DELETE"])
        router.add_api_route(FUNCTIONS + "/{name}/code", self.update_code, methods=["PUT"])
        router.add_api_route(FUNCTIONS + "/{name}/configuration", self.get_configuration, methods=["GET"])
        router.add_api_route(FUNCTIONS + "/{name}/configuration", self.update_configuration, methods=["PUT"])
        return router

    # --- reading ------------------------------------------------------------------------------------------------------

    async def get(self, name: str, request: Request) -> Response:
        """GetFunction."""
        function, reference = await self._read(name, request, "GetFunction")
        location = await asyncio.to_thread(self._services.store.location, code_key(function.code_sha256))
        content: dict[str, Any] = {
            "Configuration": self._shape(function, reference.qualifier),
            "Code": {"RepositoryType": "S3", "Location": location},
        }
        if function.tags:
            content["Tags"] = dict(function.tags)
        if function.reserved_concurrency is not None:
            content["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved_concurrency}
        return answer_json(content)

    async def get_configuration(self, name: str, request: Request) -> Response:
        """GetFunctionConfiguration."""
        function, reference = await self._read(name, request, "GetFunctionConfiguration")
        return answer_json(self._shape(function, reference.qualifier))

    async def list(self, request: Request) -> Response:
        """ListFunctions, by name; a marker is the last name of the page before it."""
        services = self._services
        await services.authorise(request, "lambda:ListFunctions", "*")
        after, count = _page(request.query_params)
        rest = [function for function in await services.registry.all() if function.name > after]
        qualifier = LATEST if request.query_params.get("FunctionVersion") == "ALL" else ""
        page = [listed(function, services.home, services.machine, qualifier) for function in rest[:count]]
        more = {"NextMarker": _marker(rest[count - 1].name)} if len(rest) > count else {}
        return answer_json({"Functions": page, **more})

    # --- writing ------------------------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """CreateFunction: the record is Pending, the rest is the controller's."""
        services = self._services
        await services.authorise_somewhere(request, "lambda:CreateFunction")
        async with deployment(request, services, "CreateFunction") as source:
            name = resolve(text(256)(_required(source.fields, "FunctionName"), "FunctionName"), services.home).name
            await services.authorise(request, "lambda:CreateFunction", services.home.arn(name))
            changes = self._creation(source.fields)
            if await services.registry.get(name) is not None:
                raise _exists(name)
            package = await stored_package(request, services, source)
            function = await self._created(name, package, changes)
        return answer_json(self._shape(function), 201)

    async def update_code(self, name: str, request: Request) -> Response:
        """UpdateFunctionCode; with DryRun nothing but the answer is made."""
        services = self._services
        reference = await self._reference(name, request, "UpdateFunctionCode")
        async with deployment(request, services, "UpdateFunctionCode") as source:
            refuse_unsupported(source.fields, services.machine)
            code_fields(source.fields)
            revision = _revision(source.fields)
            check_revision(await services.existing(reference.name), revision)
            if source.fields.get("DryRun"):
                return await self._dry_run(reference, request, source)
            package = await stored_package(request, services, source)
        function = await services.edit(reference.name, lambda present: self._with_code(present, package), revision)
        return answer_json(self._shape(function, reference.qualifier))

    async def update_configuration(self, name: str, request: Request) -> Response:
        """UpdateFunctionConfiguration."""
        services = self._services
        reference = await self._reference(name, request, "UpdateFunctionConfiguration")
        body = await json_body(request, "UpdateFunctionConfiguration")
        changes = configuration_changes(body, services.runtimes(), services.machine)
        changes.pop("tags", None)  # no field of this operation
        function = await services.edit(
            reference.name, lambda present: self._configured(present, changes), _revision(body)
        )
        return answer_json(self._shape(function, reference.qualifier))

    async def delete(self, name: str, request: Request) -> Response:
        """DeleteFunction. What depends on the function goes too, also after a deletion that was interrupted."""
        services = self._services
        reference = await self._reference(name, request, "DeleteFunction")
        if reference.qualifier:
            raise InvalidParameter(f"{LATEST} version cannot be deleted without deleting the function.")
        present = await services.registry.get(reference.name)
        if present is not None:
            deploy.check_manager(present, API)
        found = await services.registry.delete(reference.name)
        await services.make_known(reference.name)
        await deploy.clear_away(services.keys, services.queue, services.logs, reference.name)
        if not found:
            raise NotFound(f"Function not found: {services.home.arn(reference.name)}")
        return answer_json(None)

    # --- parts --------------------------------------------------------------------------------------------------------

    async def _reference(self, name: str, request: Request, operation: str) -> FunctionReference:
        """What the path and `Qualifier` name, once the caller is known to be allowed."""
        home = self._services.home
        reference = resolve(name, home, request.query_params.get("Qualifier", ""))
        resource = home.arn(reference.name, reference.qualifier)
        await self._services.authorise(request, f"lambda:{operation}", resource)
        return reference

    async def _read(self, name: str, request: Request, operation: str) -> tuple[Function, FunctionReference]:
        reference = await self._reference(name, request, operation)
        return await self._services.existing(reference.name), reference

    def _shape(self, function: Function, qualifier: str = "") -> dict[str, Any]:
        return configuration(function, self._services.home, self._services.machine, qualifier)

    def _creation(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        for name in ("Role", "Code"):
            _required(fields, name)
        code_fields(fields)
        changes = configuration_changes(fields, self._services.runtimes(), self._services.machine)
        if "runtime" not in changes or "handler" not in changes:
            raise InvalidParameter(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        return changes

    async def _created(self, name: str, package: Package, changes: Mapping[str, Any]) -> Function:
        """The function with a key pair of its own, both stored."""
        services = self._services
        drafted = Function(
            name=name,
            code_sha256=package.sha256,
            code_bytes=package.packed_bytes,
            revision="",
            last_modified_ms=services.now_ms(),
            access_key="",
            **changes,
        )
        function = await deploy.create(services.registry, services.keys, drafted)
        await services.make_known(name)
        return function

    def _with_code(self, present: Function, package: Package) -> Function:
        changes = {"code_sha256": package.sha256, "code_bytes": package.packed_bytes}
        return self._configured(present, changes)

    def _configured(self, present: Function, changes: Mapping[str, Any]) -> Function:
        changed = replace(present, **changes, last_modified_ms=self._services.now_ms())
        layer = present.layer
        if layer is not None and changed.runtime != present.runtime:
            wheels = layer_of(
                layer.requirements, changed.runtime, self._services.platform, allow_source=layer.allow_source
            )
            changed = replace(changed, layer=wheels)
        return to_prepare(changed, str(uuid.uuid4()), present)

    async def _dry_run(self, reference: FunctionReference, request: Request, source: Deployment) -> Response:
        package = await checked_package(request, self._services, source)
        present = await self._services.existing(reference.name)
        shown = replace(present, code_sha256=package.sha256, code_bytes=package.packed_bytes)
        return answer_json(self._shape(shown, reference.qualifier))


def _required(fields: Mapping[str, Any], name: str) -> Any:
    value = fields.get(name)
    if value is None:
        raise constraint("null", name, "not be null")
    return value


def _revision(fields: Mapping[str, Any]) -> str | None:
    revision = fields.get("RevisionId")
    return text(256)(revision, "RevisionId") if revision else None


def _exists(name: str) -> Conflict:
    return Conflict(f"Function already exist: {name}")


def _page(query: Mapping[str, str]) -> tuple[str, int]:
    """The name behind which a page begins, and the most that it has."""
    wanted = query.get("MaxItems", str(MAX_PAGE))
    if not wanted.isascii() or not wanted.isdigit() or not 1 <= int(wanted[:9]) <= 10_000:
        raise constraint(wanted, "MaxItems", "be a whole number from 1 to 10000")
    marker = query.get("Marker", "")
    try:
        after = base64.b64decode(marker, b"-_", validate=True).decode()
    except ValueError:
        raise InvalidParameter(f"Marker: {marker[:64]!r} is not one that ListFunctions gave out") from None
    return after, min(int(wanted[:9]), MAX_PAGE)


def _marker(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()
