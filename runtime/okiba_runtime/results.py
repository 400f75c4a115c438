"""From a handler's result to JSON, as Lambda's Python runtime writes it.

Source:
    awslambdaric's lambda_runtime_marshaller.py: `Decimal` becomes a number, NaN and infinities are refused, and from
    Python 3.12 on text is not escaped to ASCII. It decodes bytes; here they are refused, wherever they stand.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
from typing import Any

from okiba_runtime.faults import Fault

# The limit that Lambda enforces and names in its message: 6 MiB and a little.
MAX_RESULT = 6_291_556

_ESCAPES = sys.version_info < (3, 12)

# A Decimal must appear with all its digits, which no float has. json lets a `default` return text only, so it is
# written between two marks nobody can guess, and the marks are taken away with their quotes afterwards.
_MARK = f"decimal-{os.urandom(16).hex()}:"


def to_json(result: object) -> bytes:
    """The result's JSON.

    Raises:
        Fault: It is not JSON (`Runtime.MarshalError`) or too large (`Function.ResponseSizeTooLarge`).
    """
    try:
        body = _encoded(result)
    except Exception as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from error
    if len(body) > MAX_RESULT:
        message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESULT} bytes)."
        raise Fault("Function.ResponseSizeTooLarge", message, bare=True)
    return body


def _encoded(result: object) -> bytes:
    text = _encode(result)
    if _MARK in text:
        text = text.replace(f'"{_MARK}', "").replace(f'{_MARK}"', "")
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which only its escape can carry
        return text.encode("ascii", "json_escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _default(value: Any) -> str:
    decimal = sys.modules.get("decimal")
    if decimal is None or not isinstance(value, decimal.Decimal):
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    if not value.is_finite():
        raise ValueError(f"Out of range float values are not JSON compliant: {value}")
    return f"{_MARK}{value}{_MARK}"


_encode = json.JSONEncoder(ensure_ascii=_ESCAPES, allow_nan=False, default=_default).encode
codecs.register_error("json_escape", _escaped)
