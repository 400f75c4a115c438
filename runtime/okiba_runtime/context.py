"""The context object that handlers get, attribute for attribute Lambda's."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from okiba_runtime.order import Order


class CognitoIdentity:
    """Always there, as on Lambda; empty, since nobody signs in through Cognito here."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self) -> None:
        self.cognito_identity_id: str | None = None
        self.cognito_identity_pool_id: str | None = None


class Client:
    """The mobile client that `X-Amz-Client-Context` describes."""

    __slots__ = ("app_package_name", "app_title", "app_version_code", "app_version_name", "installation_id")

    def __init__(self, fields: dict[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, fields.get(name))


class ClientContext:
    """`X-Amz-Client-Context`, as the Mobile SDKs send it."""

    __slots__ = ("client", "custom", "env")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.custom = fields.get("custom")
        self.env = fields.get("env")
        client = fields.get("client")
        self.client = None if client is None else Client(client)


class LambdaContext:
    """One invocation's context; names and types are Lambda's (`memory_limit_in_mb` is text there too)."""

    def __init__(
        self, order: Order, request_id: str, arn: str, deadline_ms: int, client_context: ClientContext | None
    ) -> None:
        self.aws_request_id = request_id
        self.log_group_name = order.log_group
        self.log_stream_name = order.log_stream
        self.function_name = order.name
        self.memory_limit_in_mb = str(order.memory_mb)
        self.function_version = order.version
        self.invoked_function_arn = arn
        self.tenant_id: str | None = None
        self.client_context = client_context
        self.identity = CognitoIdentity()
        self._epoch_deadline_time_in_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until this invocation is ended; never negative."""
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def log(self, msg: object) -> None:
        """Writes the message into the function's log as it is, without a line end."""
        for handler in logging.getLogger().handlers:
            if hasattr(handler, "log_sink"):
                handler.log_sink.log(str(msg))
                return
        sys.stdout.write(str(msg))

    def __repr__(self) -> str:
        fields = ("aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb",
                  "function_version", "invoked_function_arn", "client_context", "identity", "tenant_id")  # fmt: skip
        return f"LambdaContext([{','.join(f'{name}={getattr(self, name)}' for name in fields)}])"
