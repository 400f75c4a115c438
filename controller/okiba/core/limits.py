"""Lambda's and S3's limits on what a function says, for everyone who checks them: the gateway, and `okiba deploy`.

A check returns what is wrong as the end of a sentence about the value, or an empty text; its caller knows the place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from okiba.core.names import MAX_NAME, RESERVED
from okiba.core.s3_policy import PLATFORM_BUCKET

SUPPORTED_RUNTIMES: Final = ("python3.10", "python3.11", "python3.12", "python3.13")

MAX_HANDLER: Final = 128
MAX_DESCRIPTION: Final = 256
"""Characters."""

MAX_ENVIRONMENT: Final = 4_096
"""Bytes of all variables as JSON."""

RESERVED_VARIABLES: Final = frozenset(
    {
        "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION", "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
    }
)  # fmt: skip
"""Variables that the platform itself sets."""

VARIABLE: Final = re.compile(r"[a-zA-Z]([a-zA-Z0-9_])+", re.ASCII)

RESERVED_BUCKET: Final = PLATFORM_BUCKET
"""The platform's own bucket, for code."""

_FUNCTION_NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}", re.ASCII)
_BUCKET_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_IP_ADDRESS: Final = re.compile(r"\d{1,3}(\.\d{1,3}){3}", re.ASCII)
_BUCKET_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_BUCKET_SUFFIXES: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def environment_bytes(variables: Mapping[str, str]) -> int:
    """How much of `MAX_ENVIRONMENT` these variables take."""
    return len(json.dumps(variables, separators=(",", ":"), ensure_ascii=False).encode())


def variable_flaw(name: str, value: str) -> str:
    """What is wrong with one variable."""
    if name in RESERVED_VARIABLES:
        return "is reserved: the platform sets it"
    if not VARIABLE.fullmatch(name):
        return "must be 2 or more letters, digits and _, the first a letter"
    return "has a NUL byte in its value" if "\0" in value else ""


def handler_flaw(handler: str) -> str:
    """What is wrong with a handler's name, as far as can be seen without its code."""
    if len(handler) > MAX_HANDLER:
        return f"has {len(handler)} characters; {MAX_HANDLER} are allowed"
    return "has a space in it" if re.search(r"\s", handler) else ""


def function_name_flaw(name: str) -> str:
    """What is wrong with a function's bare name."""
    if not _FUNCTION_NAME.fullmatch(name):
        return f"cannot be a name (1 to {MAX_NAME} of A-Z a-z 0-9 _ -)"
    return "is reserved: the administrator's key is called so" if name in RESERVED else ""


def bucket_name_flaw(name: str) -> str:
    """What is wrong with a bucket's name, by S3's rules and ours."""
    if not _BUCKET_NAME.fullmatch(name):
        return "cannot be a name (3 to 63 of a-z 0-9 . -, a letter or digit at both ends)"
    if any(pair in name for pair in ("..", ".-", "-.")):
        return "cannot be a name (no dot beside a dot or a hyphen)"
    if _IP_ADDRESS.fullmatch(name):
        return "cannot be a name (it looks like an IP address)"
    if name.startswith(_BUCKET_PREFIXES) or name.endswith(_BUCKET_SUFFIXES):
        return "cannot be a name (S3 reserves how it begins or ends)"
    return "is the platform's own; choose another" if name == RESERVED_BUCKET else ""
