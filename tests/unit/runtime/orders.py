"""Orders for tests."""

from __future__ import annotations

import json
from typing import Any

from okiba_runtime.order import Order, parse_order

FIELDS: dict[str, Any] = {
    "epoch": 7,
    "grant": "ab" * 32,
    "function": {
        "name": "probe",
        "version": "$LATEST",
        "arn": "arn:aws:lambda:us-east-1:000000000000:function:probe",
        "handler": "app.handler",
        "memory_mb": 256,
        "timeout_ms": 3000,
        "log_group": "/aws/lambda/probe",
        "log_stream": "stream",
    },
    "environment": {"KEY": "value"},
    "code": {"path": "/code"},
    "layers": [],
    "packages": [],
    "init_ms": 10_000,
}


def order(**changes: Any) -> Order:
    return parse_order(json.dumps({**FIELDS, **changes}).encode())
