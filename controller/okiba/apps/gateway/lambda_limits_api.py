"""Lambda's operations on how a function is called: reserved concurrency, retries, age of events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from okiba.apps.gateway.lambda_fields import constraint, number
from okiba.apps.gateway.lambda_shapes import event_invoke_config
from okiba.apps.gateway.services import ControlServices, answer_json, json_body
from okiba.core.errors import InvalidParameter, NotFound, Unsupported
from okiba.core.function import LATEST, Function
from okiba.core.names import resolve

CONCURRENCY: Final = "/functions/{name}/concurrency"
INVOKE_CONFIG: Final = "/2019-09-25/functions/{name}/event-invoke-config"

MAX_CONCURRENCY: Final = 1_000_000
DEFAULTS: Final[dict[str, Any]] = {"retries": 2, "max_event_age_s": 21_600}


class LambdaLimitsApi:
    """The operations, one method each; none of them makes a new revision."""

    def __init__(self, services: ControlServices) -> None:
        self._services = services

    def router(self) -> APIRouter:
        """Where they are; AWS has moved one of them to another year."""
        router = APIRouter()
        router.add_api_route("/2017-10-31" + CONCURRENCY, self.put_concurrency, methods=["PUT"])
        router.add_api_route("/2017-10-31" + CONCURRENCY, self.delete_concurrency, methods=["DELETE"])
        router.add_api_route("/2019-09-30" + CONCURRENCY, self.get_concurrency, methods=["GET"])
        router.add_api_route(INVOKE_CONFIG, self.put_invoke_config, methods=["PUT"])
        router.add_api_route(INVOKE_CONFIG, self.update_invoke_config, methods=["POST"])
        router.add_api_route(INVOKE_CONFIG, self.get_invoke_config, methods=["GET"])
        router.add_api_route(INVOKE_CONFIG, self.delete_invoke_config, methods=["DELETE"])
        return router

    async def put_concurrency(self, name: str, request: Request) -> Response:
        """PutFunctionConcurrency; 0 means that the function never runs."""
        bare = await self._authorised(name, request, "PutFunctionConcurrency")
        body = await json_body(request, "PutFunctionConcurrency")
        wanted = body.get("ReservedConcurrentExecutions")
        if wanted is None:
            raise constraint("null", "ReservedConcurrentExecutions", "not be null")
        limit = number(0, MAX_CONCURRENCY)(wanted, "ReservedConcurrentExecutions")
        await self._services.edit(bare, lambda present: replace(present, reserved_concurrency=limit))
        return answer_json({"ReservedConcurrentExecutions": limit})

    async def get_concurrency(self, name: str, request: Request) -> Response:
        """GetFunctionConcurrency; an empty object when none is reserved."""
        bare = await self._authorised(name, request, "GetFunctionConcurrency")
        limit = (await self._services.existing(bare)).reserved_concurrency
        return answer_json({} if limit is None else {"ReservedConcurrentExecutions": limit})

    async def delete_concurrency(self, name: str, request: Request) -> Response:
        """DeleteFunctionConcurrency."""
        bare = await self._authorised(name, request, "DeleteFunctionConcurrency")
        await self._services.edit(bare, lambda present: replace(present, reserved_concurrency=None))
        return answer_json(None, 204)

    async def put_invoke_config(self, name: str, request: Request) -> Response:
        """PutFunctionEventInvokeConfig: what is not said gets its default."""
        bare = await self._authorised(name, request, "PutFunctionEventInvokeConfig")
        body = await json_body(request, "PutFunctionEventInvokeConfig")
        return await self._set_invoke_config(bare, DEFAULTS | _invoke_changes(body), must_exist=False)

    async def update_invoke_config(self, name: str, request: Request) -> Response:
        """UpdateFunctionEventInvokeConfig: what is not said stays."""
        bare = await self._authorised(name, request, "UpdateFunctionEventInvokeConfig")
        body = await json_body(request, "UpdateFunctionEventInvokeConfig")
        return await self._set_invoke_config(bare, _invoke_changes(body), must_exist=True)

    async def get_invoke_config(self, name: str, request: Request) -> Response:
        """GetFunctionEventInvokeConfig."""
        bare = await self._authorised(name, request, "GetFunctionEventInvokeConfig")
        function = await self._services.existing(bare)
        self._check_configured(function)
        return answer_json(event_invoke_config(function, self._services.home))

    async def delete_invoke_config(self, name: str, request: Request) -> Response:
        """DeleteFunctionEventInvokeConfig."""
        bare = await self._authorised(name, request, "DeleteFunctionEventInvokeConfig")

        def without(present: Function) -> Function:
            self._check_configured(present)
            return replace(present, **DEFAULTS, invoke_config_ms=None)

        await self._services.edit(bare, without)
        return answer_json(None, 204)

    async def _set_invoke_config(self, name: str, changes: Mapping[str, Any], *, must_exist: bool) -> Response:
        now_ms = self._services.now_ms()

        def configured(present: Function) -> Function:
            if must_exist:
                self._check_configured(present)
            return replace(present, **changes, invoke_config_ms=now_ms)

        function = await self._services.edit(name, configured)
        return answer_json(event_invoke_config(function, self._services.home))

    def _check_configured(self, function: Function) -> None:
        if function.invoke_config_ms is None:
            arn = self._services.home.arn(function.name, LATEST)
            raise NotFound(f"The function {arn} doesn't have an EventInvokeConfig")

    async def _authorised(self, name: str, request: Request, operation: str) -> str:
        home = self._services.home
        reference = resolve(name, home, request.query_params.get("Qualifier", ""))
        resource = home.arn(reference.name, reference.qualifier)
        await self._services.authorise(request, f"lambda:{operation}", resource)
        return reference.name


def _invoke_changes(body: Mapping[str, Any]) -> dict[str, Any]:
    _refuse_destinations(body.get("DestinationConfig"))
    changes = {}
    if body.get("MaximumRetryAttempts") is not None:
        changes["retries"] = number(0, 2)(body["MaximumRetryAttempts"], "MaximumRetryAttempts")
    if body.get("MaximumEventAgeInSeconds") is not None:
        changes["max_event_age_s"] = number(60, 21_600)(body["MaximumEventAgeInSeconds"], "MaximumEventAgeInSeconds")
    return changes


def _refuse_destinations(config: Any) -> None:
    if config is None:
        return
    if not isinstance(config, dict) or not all(isinstance(config.get(key) or {}, dict) for key in config):
        raise InvalidParameter(f"DestinationConfig must be an object, got {config!r:.100}")
    if any(target.get("Destination") for target in config.values() if target):
        raise Unsupported("DestinationConfig: destinations are not supported; dead letters are kept: `okiba dlq list`")
