"""Holds a template against the tables of `sam_properties`: every property in it is honoured, warned of, or refused.

All refusals are told at once, each with its line; values are not looked into further than the tables need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from okiba.adapters import sam_properties as tables
from okiba.adapters.sam_document import Document, Place
from okiba.adapters.sam_properties import Effect, Rule, Table
from okiba.core.errors import Unsupported

SERVERLESS_TRANSFORM = "AWS::Serverless-2016-10-31"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something in the template that has no effect here.

    Args:
        resource: The logical id of the function or bucket that it stands at; empty for the whole template.
        text: One line, with the file's name and line.
    """

    resource: str
    text: str


def check_document(document: Document) -> list[Notice]:
    """What has no effect here.

    Raises:
        Unsupported: Something that would change meaning or security is asked for; names all of it, line by line.
        InvalidParameter: The template is not laid out as a template.
    """
    check = _Check(document)
    check.template()
    if check.refusals:
        raise Unsupported("\n".join(check.refusals))
    return check.notices


def mapping(document: Document, place: Place, value: object) -> dict[str, Any]:
    """The value, if it is a mapping.

    Raises:
        InvalidParameter: It is something else.
    """
    if isinstance(value, dict):
        return value
    raise document.invalid(place, f"{place[-1] if place else 'the template'} must be a mapping")


class _Check:
    """One walk through one template."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.notices: list[Notice] = []
        self.refusals: list[str] = []

    def template(self) -> None:
        body = self._table((), self._document.body, tables.TEMPLATE)
        if body.get("Transform") not in (SERVERLESS_TRANSFORM, [SERVERLESS_TRANSFORM]):
            raise self._document.invalid(("Transform",), f"expected Transform: {SERVERLESS_TRANSFORM}")
        for name, parameter in self._mapping(("Parameters",), body.get("Parameters", {})).items():
            self._table(("Parameters", name), parameter, tables.PARAMETER)
        globals_ = self._table(("Globals",), body.get("Globals", {}), tables.GLOBALS)
        self._function(("Globals", "Function"), globals_.get("Function", {}))
        for logical_id, resource in self._mapping(("Resources",), body.get("Resources")).items():
            self._resource(("Resources", logical_id), resource)

    def _resource(self, place: Place, value: object) -> None:
        resource = self._table(place, value, tables.RESOURCE)
        kind = str(resource.get("Type"))
        self._named(tables.RESOURCE_TYPES, (*place, "Type"), kind, f"a resource of type {kind}")
        properties = (*place, "Properties")
        if kind == "AWS::S3::Bucket":
            self._table(properties, resource.get("Properties", {}), tables.BUCKET)
        elif kind == "AWS::Serverless::Function":
            self._function(properties, resource.get("Properties", {}))
            self._metadata((*place, "Metadata"), resource.get("Metadata", {}))

    def _function(self, place: Place, value: object) -> None:
        properties = self._table(place, value, tables.FUNCTION)
        self._table((*place, "Environment"), properties.get("Environment", {}), tables.ENVIRONMENT)
        config = (*place, "EventInvokeConfig")
        self._table(config, properties.get("EventInvokeConfig", {}), tables.EVENT_INVOKE_CONFIG)
        for name, event in self._mapping((*place, "Events"), properties.get("Events", {})).items():
            self._event((*place, "Events", name), event)

    def _event(self, place: Place, value: object) -> None:
        event = self._table(place, value, tables.EVENT)
        kind = str(event.get("Type"))
        self._named(tables.EVENT_TYPES, (*place, "Type"), kind, f"an event of type {kind}")
        if kind == "S3":
            self._table((*place, "Properties"), event.get("Properties", {}), tables.S3_EVENT)

    def _metadata(self, place: Place, value: object) -> None:
        """Metadata is free text to AWS, so only what is known to mean something is looked at."""
        metadata = self._mapping(place, value)
        known = {key: item for key, item in metadata.items() if key in tables.FUNCTION_METADATA}
        self._table(place, known, tables.FUNCTION_METADATA)
        self._table((*place, "Okiba"), metadata.get("Okiba", {}), tables.OKIBA)

    def _table(self, place: Place, value: object, table: Table) -> dict[str, Any]:
        found = self._mapping(place, value)
        for key, item in found.items():
            rule = table.get(key)
            if rule is None:
                allowed = ", ".join(name for name in table if table[name].effect is Effect.HONOURED)
                self._refuse((*place, key), f"{key} is not known here; what is known: {allowed}")
            else:
                self._apply(rule, (*place, key), item)
        return found

    def _apply(self, rule: Rule, place: Place, value: object) -> None:
        effect = rule.effect_of(value)
        if effect is Effect.REFUSED:
            self._refuse(place, f"{place[-1]} is refused: {rule.text}")
        elif effect is Effect.WITHOUT_EFFECT:
            resource = str(place[1]) if place[0] == "Resources" else ""
            self.notices.append(Notice(resource, self._document.at(place, f"{place[-1]} has no effect: {rule.text}")))

    def _named(self, table: Table, place: Place, name: str, what: str) -> None:
        rule = table.get(name)
        if rule is None:
            self._refuse(place, f"{what} is refused: Okiba does not have it")
        elif rule.effect is Effect.REFUSED:
            self._refuse(place, f"{what} is refused: {rule.text}")

    def _refuse(self, place: Place, text: str) -> None:
        self.refusals.append(self._document.at(place, text))

    def _mapping(self, place: Place, value: object) -> dict[str, Any]:
        return mapping(self._document, place, value)
