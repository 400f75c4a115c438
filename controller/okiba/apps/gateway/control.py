"""The control plane's HTTP API as one ASGI application: Lambda's operations and Okiba's own routes.

It is mounted behind the data path, which has verified who calls (`scope["okiba.principal"]`) and serves Invoke
itself. Here is only what holds for every route: errors as AWS shapes them, and what is absent named.
"""

from __future__ import annotations

import logging
import shutil
import uuid

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from okiba.apps.gateway.http import error_response
from okiba.apps.gateway.lambda_api import LambdaApi
from okiba.apps.gateway.lambda_limits_api import LambdaLimitsApi
from okiba.apps.gateway.lambda_operations import missing
from okiba.apps.gateway.okiba_api import OkibaApi
from okiba.apps.gateway.services import ControlServices, principal_of
from okiba.core.errors import OkibaError

__all__ = ["ControlServices", "control_app"]

log = logging.getLogger(__name__)


def control_app(services: ControlServices) -> FastAPI:
    """The application; the spool folder is emptied of what an earlier life left in it."""
    shutil.rmtree(services.spool, ignore_errors=True)
    services.spool.mkdir(mode=0o700, parents=True)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for api in (LambdaApi(services), LambdaLimitsApi(services), OkibaApi(services)):
        app.include_router(api.router())
    app.add_exception_handler(OkibaError, _told)
    app.add_exception_handler(HTTPException, _absent)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(TimeoutError, _hung_up)
    app.add_exception_handler(Exception, _failed)
    return app


async def _told(_request: Request, error: Exception) -> Response:
    return _error(error) if isinstance(error, OkibaError) else await _failed(_request, error)


async def _absent(request: Request, _: Exception) -> Response:
    """No route answers this path, or not with this method."""
    try:
        principal_of(request)
    except OkibaError as error:
        return _error(error)
    return _error(missing(request.method, request.url.path))


async def _hung_up(_request: Request, _: Exception) -> Response:
    return Response(status_code=408)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a control request failed", exc_info=error, extra={"method": request.method, "path": request.url.path})
    return _error(OkibaError("The service encountered an internal error; the gateway's log has the details."))


def _error(error: OkibaError) -> Response:
    status, headers, body = error_response(error, str(uuid.uuid4()))
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})
