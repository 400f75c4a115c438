"""A template's Parameters: given values, defaults, and what a value is allowed to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from okiba.adapters.sam_document import Document, Place
from okiba.core.errors import InvalidParameter

ParameterValue = str | int | float


def parameter_values(document: Document, given: Mapping[str, str]) -> dict[str, ParameterValue]:
    """The value of every parameter of a checked template.

    Raises:
        InvalidParameter: A value is missing, or not allowed, or for a parameter that the template does not have.
        Unsupported: A parameter's type is neither String nor Number.
    """
    declared: dict[str, dict[str, Any]] = document.body.get("Parameters", {})
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise InvalidParameter(f"{document.name} has no parameter {name}; it has: {known}")
    return {
        name: _value(document, ("Parameters", name), declaration, given.get(name, declaration.get("Default")))
        for name, declaration in declared.items()
    }


def _value(document: Document, place: Place, declaration: Mapping[str, Any], value: object) -> ParameterValue:
    if value is None:
        raise document.invalid(place, f"{place[-1]} has no default; give it with --parameter {place[-1]}=VALUE")
    match declaration.get("Type"):
        case "String":
            text = _text(value)
            _check_text(document, place, declaration, text)
            return text
        case "Number":
            number = _number(document, place, value)
            _check_number(document, place, declaration, number)
            return number
        case other:
            raise document.unsupported((*place, "Type"), f"a parameter's Type must be String or Number, not {other}")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(document: Document, place: Place, value: object) -> int | float:
    try:
        number = float(str(value))
    except ValueError as error:
        raise document.invalid(place, f"{place[-1]} must be a number, got {value!r}") from error
    return int(number) if number.is_integer() else number


def _check_text(document: Document, place: Place, rules: Mapping[str, Any], text: str) -> None:
    allowed = [_text(item) for item in rules.get("AllowedValues", [text])]
    shortest, longest = int(rules.get("MinLength", 0)), int(rules.get("MaxLength", len(text)))
    pattern = str(rules.get("AllowedPattern", "(?s:.*)"))
    demands = {
        f"one of {', '.join(allowed)}": text in allowed,
        f"at least {shortest} characters long": len(text) >= shortest,
        f"at most {longest} characters long": len(text) <= longest,
        f"like {pattern}": re.fullmatch(pattern, text) is not None,
    }
    _check(document, place, rules, text, demands)


def _check_number(document: Document, place: Place, rules: Mapping[str, Any], number: float) -> None:
    allowed = [float(str(item)) for item in rules.get("AllowedValues", [number])]
    least, most = float(rules.get("MinValue", number)), float(rules.get("MaxValue", number))
    demands = {
        f"one of {', '.join(f'{item:g}' for item in allowed)}": number in allowed,
        f"at least {least:g}": number >= least,
        f"at most {most:g}": number <= most,
    }
    _check(document, place, rules, number, demands)


def _check(
    document: Document, place: Place, rules: Mapping[str, Any], value: object, demands: Mapping[str, bool]
) -> None:
    """Refuses the value by the first demand that it does not meet."""
    for expected, met in demands.items():
        if not met:
            reason = f" ({rules['ConstraintDescription']})" if "ConstraintDescription" in rules else ""
            raise document.invalid(place, f"{place[-1]} must be {expected}, got {value!r}{reason}")
