"""JSON as others send it, read strictly: what Python's parser lets pass and later trips over is refused here."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

from okiba.core.errors import InvalidRequestContent

_ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def parsed(text: bytes) -> Any:
    """The value of a UTF-8 JSON text. Of duplicate keys the last wins, as everywhere.

    Raises:
        InvalidRequestContent: Not JSON, not UTF-8, NaN or an infinity (1e999 is one), a number of too many digits,
            nested too deep, or a lone surrogate (which no later `.encode()` would survive).
    """
    try:
        decoded = text.decode()
        value = _DECODER.decode(decoded)
        if _ESCAPED_SURROGATE.search(decoded):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise InvalidRequestContent("Could not parse request body into json: nested too deep") from None
    except ValueError as error:  # also UnicodeError and JSONDecodeError
        raise InvalidRequestContent(f"Could not parse request body into json: {_reason(error)}") from error
    return value


def parsed_object(text: bytes) -> dict[str, Any]:
    """As `parsed`, where only an object will do; no text at all is an empty one."""
    value = parsed(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise InvalidRequestContent(f"Request body must be a JSON object, got {_kind(value)}")
    return value


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "a lone surrogate is no character"
    return str(error)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number[:32]} is beyond every double")
    return value


# Made once: json.loads would make one a call, which costs as much as reading a small event.
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
