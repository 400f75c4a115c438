"""Ref, Fn::Sub, Fn::GetAtt and Fn::Join, resolved as far as names of functions and buckets go.

Names decide themselves when they are first asked for, since one may be built from another; a circle is refused.
Everything else of CloudFormation's intrinsic functions is refused with its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from okiba.adapters.sam_document import Document, Place
from okiba.adapters.sam_parameters import ParameterValue

INSTEAD: Final = {
    "Fn::If": "conditions are not in this release; use Parameters",
    "Condition": "conditions are not in this release; use Parameters",
    "Fn::FindInMap": "mappings are not in this release; use Parameters with defaults",
    "Fn::ImportValue": "stacks share nothing here; use a parameter",
    "Fn::Select": "write the item out",
    "Fn::Split": "write the items out",
    "Fn::Base64": "write the encoded text out",
    "Fn::GetAZs": "there are no availability zones here",
    "Fn::Cidr": "there are no networks here",
    "Fn::Transform": "macros belong to CloudFormation; write the result out",
}

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


class Intrinsics:
    """Resolves the intrinsic functions of one template.

    Args:
        constants: Parameters and pseudo parameters by name.
        kinds: Logical id to resource type.
        name_of: Decides the name of a function or bucket; may resolve in its turn.
        arn_of: The ARN for a resource type and a name.
    """

    def __init__(
        self,
        document: Document,
        constants: Mapping[str, ParameterValue],
        kinds: Mapping[str, str],
        name_of: Callable[[Intrinsics, str], str],
        arn_of: Callable[[str, str], str],
    ) -> None:
        self._document = document
        self._constants = constants
        self._kinds = kinds
        self._name_of = name_of
        self._arn_of = arn_of
        self._names: dict[str, str] = {}
        self._open: list[str] = []

    def resolve(self, value: Any, place: Place) -> Any:
        """The value with every intrinsic function in it replaced by what it stands for."""
        if isinstance(value, list):
            return [self.resolve(item, (*place, index)) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and _is_intrinsic(name := next(iter(value))):
            return self._call(name, value[name], (*place, name))
        return {key: self.resolve(item, (*place, key)) for key, item in value.items()}

    def name(self, logical_id: str, place: Place) -> str:
        """The name that the function or bucket has, or will have, here."""
        if logical_id in self._open:
            circle = " → ".join([*self._open, logical_id])
            raise self._document.invalid(place, f"names refer to each other in a circle: {circle}")
        if logical_id not in self._names:
            self._open.append(logical_id)
            self._names[logical_id] = self._name_of(self, logical_id)
            self._open.pop()
        return self._names[logical_id]

    def _call(self, function: str, argument: Any, place: Place) -> Any:
        match function:
            case "Ref":
                return self._ref(argument, place)
            case "Fn::Sub":
                return self._sub(argument, place)
            case "Fn::GetAtt":
                return self._get_att(argument, place)
            case "Fn::Join":
                return self._join(argument, place)
            case _:
                instead = INSTEAD.get(function, "write the result out")
                raise self._document.unsupported(place, f"{function} is refused: {instead}")

    def _ref(self, target: object, place: Place) -> ParameterValue:
        if target == "AWS::NoValue":
            raise self._document.unsupported(place, "AWS::NoValue is refused: leave the property out")
        if isinstance(target, str) and target in self._constants:
            return self._constants[target]
        if isinstance(target, str) and target in self._kinds:
            return self.name(target, place)
        raise self._document.invalid(place, f"{target!r} is neither a parameter nor a resource of this template")

    def _get_att(self, target: object, place: Place) -> str:
        parts = target.split(".", 1) if isinstance(target, str) else target
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise self._document.invalid(place, "Fn::GetAtt needs [resource, attribute]")
        logical_id, attribute = parts
        if logical_id not in self._kinds:
            raise self._document.invalid(place, f"{logical_id!r} is not a resource of this template")
        if attribute != "Arn":
            raise self._document.unsupported(place, f"{logical_id}.{attribute} is refused: only Arn is known here")
        return self._arn_of(self._kinds[logical_id], self.name(logical_id, place))

    def _sub(self, argument: object, place: Place) -> str:
        text, given = argument if isinstance(argument, list) and len(argument) == 2 else (argument, {})
        if not isinstance(text, str) or not isinstance(given, dict):
            raise self._document.invalid(place, "Fn::Sub needs a text, or [text, {name: value}]")
        values = {name: self.resolve(value, (*place, 1, name)) for name, value in given.items()}

        def replaced(match: re.Match[str]) -> str:
            name = match[1].strip()
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in values:
                return str(values[name])
            return str(self._get_att(name, place) if "." in name else self._ref(name, place))

        return _PLACEHOLDER.sub(replaced, text)

    def _join(self, argument: object, place: Place) -> str:
        if not isinstance(argument, list) or len(argument) != 2 or not isinstance(argument[1], list):
            raise self._document.invalid(place, "Fn::Join needs [delimiter, [values]]")
        return str(argument[0]).join(str(item) for item in self.resolve(argument[1], (*place, 1)))


def _is_intrinsic(name: str) -> bool:
    return name in {"Ref", "Condition"} or name.startswith("Fn::")
