"""One function's merged properties as a `FunctionPlan`; every value parsed, with its limits, at its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from okiba.adapters.sam_check import Notice, mapping
from okiba.adapters.sam_document import Document, Place
from okiba.adapters.sam_events import bindings
from okiba.adapters.sam_plan import FunctionPlan
from okiba.adapters.sam_policies import Policies
from okiba.core.function import Statement
from okiba.core.limits import (
    MAX_DESCRIPTION,
    MAX_ENVIRONMENT,
    SUPPORTED_RUNTIMES,
    environment_bytes,
    handler_flaw,
    variable_flaw,
)

LIMITS: Final[dict[str, tuple[int, int]]] = {
    "MemorySize": (128, 10_240),
    "Timeout": (1, 900),
    "ReservedConcurrentExecutions": (0, 1_000),
    "MaximumRetryAttempts": (0, 2),
    "MaximumEventAgeInSeconds": (60, 21_600),
}
"""Lowest and highest values, Lambda's own: MB, s, slots, retries, s."""

DEFAULTS: Final = {"MemorySize": 128, "Timeout": 3, "MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 21_600}
"""Lambda's defaults, for what a template does not say."""

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class FunctionReader:
    """Reads one function of a checked, resolved and translated template.

    Args:
        properties: Its own and those of Globals.
        events: Its `Events` with every `Bucket` resolved to a name.
        metadata: Its `Metadata: Okiba`.
        is_installed: Whether there is an interpreter for a runtime.
    """

    def __init__(
        self,
        document: Document,
        logical_id: str,
        properties: Mapping[str, Any],
        events: dict[str, Any],
        metadata: Mapping[str, Any],
        is_installed: Callable[[str], bool],
    ) -> None:
        self._document = document
        self._logical_id = logical_id
        self._properties = properties
        self._events = events
        self._metadata = metadata
        self._is_installed = is_installed

    def plan(
        self, name: str, code_uri: object, folder: Path, documents: list[dict[str, Any]], notices: list[Notice]
    ) -> FunctionPlan:
        """The function as wanted.

        Args:
            code_uri: What the template says, before it was replaced for the translator.
            folder: The template's own.
            documents: The policy documents that the translator wrote, resolved.
            notices: The template's so far; this function's new ones are added.

        Raises:
            CallerError: A value is wrong, or asks for what Okiba does not have; with its line.
        """
        inline = self._inline(code_uri)
        config = self._mapping("EventInvokeConfig")
        config_place = self._place("EventInvokeConfig")
        statements = self._statements(documents, notices)
        return FunctionPlan(
            logical_id=self._logical_id,
            name=name,
            runtime=self._runtime(),
            handler=self._handler(),
            folder=None if inline else self._folder(code_uri, folder),
            inline=inline,
            description=self._description(),
            memory_mb=self._whole(self._properties, "MemorySize", self._place("MemorySize")),
            timeout_s=self._whole(self._properties, "Timeout", self._place("Timeout")),
            environment=self._environment(),
            reserved_concurrency=self._reserved_concurrency(),
            retries=self._whole(config, "MaximumRetryAttempts", config_place),
            max_event_age_s=self._whole(config, "MaximumEventAgeInSeconds", config_place),
            bindings=bindings(self._document, self._place("Events"), self._events),
            statements=statements,
            preload=self._preload(),
            allow_source=self._allow_source(),
            tags=self._scalars(self._place("Tags"), self._mapping("Tags")),
            warnings=tuple(notice.text for notice in notices if notice.resource in {"", self._logical_id}),
        )

    def _place(self, name: str) -> Place:
        own: Place = ("Resources", self._logical_id, "Properties", name)
        shared: Place = ("Globals", "Function", name)
        return shared if own not in self._document.lines and shared in self._document.lines else own

    def _mapping(self, name: str) -> dict[str, Any]:
        return mapping(self._document, self._place(name), self._properties.get(name, {}))

    def _text(self, name: str) -> str:
        value = self._properties.get(name)
        if not isinstance(value, str) or not value:
            text = f"{name} of {self._logical_id} must be a text, got {value!r}"
            raise self._document.invalid(self._place(name), text)
        return value

    def _whole(self, values: Mapping[str, Any], name: str, place: Place) -> int:
        value = values.get(name, DEFAULTS.get(name))
        least, most = LIMITS[name]
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise self._document.invalid(place, f"{name} must be a whole number from {least} to {most}, got {value!r}")
        return number

    def _reserved_concurrency(self) -> int | None:
        name = "ReservedConcurrentExecutions"
        return self._whole(self._properties, name, self._place(name)) if name in self._properties else None

    def _runtime(self) -> str:
        runtime = self._text("Runtime")
        if runtime not in SUPPORTED_RUNTIMES:
            text = f"Runtime must be one of {', '.join(SUPPORTED_RUNTIMES)}, got {runtime}"
            raise self._document.unsupported(self._place("Runtime"), text)
        if not self._is_installed(runtime):
            text = f"Runtime: {runtime} is not installed on this machine; see `okiba doctor` for those that are"
            raise self._document.unsupported(self._place("Runtime"), text)
        return runtime

    def _handler(self) -> str:
        handler = self._text("Handler")
        if flaw := handler_flaw(handler):
            raise self._document.invalid(self._place("Handler"), f"Handler {handler[:MAX_DESCRIPTION]!r} {flaw}")
        return handler

    def _description(self) -> str:
        place = self._place("Description")
        description = self._scalar(place, self._properties.get("Description", ""))
        if len(description) > MAX_DESCRIPTION:
            text = f"Description has {len(description)} characters; {MAX_DESCRIPTION} are allowed"
            raise self._document.invalid(place, text)
        return description

    def _inline(self, code_uri: object) -> str:
        inline = self._scalar(self._place("InlineCode"), self._properties.get("InlineCode", ""))
        if inline and code_uri is not None:
            raise self._document.invalid(self._place("InlineCode"), "there is a CodeUri too; leave one of them out")
        return inline

    def _folder(self, code_uri: object, folder: Path) -> Path:
        place = self._place("CodeUri")
        if not isinstance(code_uri, str) or "://" in code_uri:
            raise self._document.unsupported(place, f"CodeUri must be a folder beside the template, got {code_uri!r}")
        path = (folder / code_uri).resolve()
        if not path.is_dir():
            raise self._document.invalid(place, f"CodeUri must be a folder beside the template; {path} is none")
        return path

    def _environment(self) -> dict[str, str]:
        place = (*self._place("Environment"), "Variables")
        written = mapping(self._document, place, self._mapping("Environment").get("Variables", {}))
        variables = self._scalars(place, written)
        for name, value in variables.items():
            if flaw := variable_flaw(name, value):
                raise self._document.invalid((*place, name), f"the variable {name} {flaw}")
        if (size := environment_bytes(variables)) > MAX_ENVIRONMENT:
            raise self._document.invalid(place, f"Variables take {size} bytes; {MAX_ENVIRONMENT} are allowed")
        return variables

    def _scalars(self, place: Place, values: Mapping[str, Any]) -> dict[str, str]:
        return {name: self._scalar((*place, name), value) for name, value in values.items()}

    def _scalar(self, place: Place, value: object) -> str:
        """A scalar as CloudFormation writes it into JSON."""
        if not isinstance(value, str | int | float):
            raise self._document.invalid(place, f"{place[-1]} must be a text, a number or a boolean, got {value!r}")
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _statements(self, documents: list[dict[str, Any]], notices: list[Notice]) -> tuple[Statement, ...]:
        policies = Policies(self._document, self._logical_id, self._place("Policies"))
        written = self._properties.get("Policies", [])
        names = [item for item in (written if isinstance(written, list) else [written]) if isinstance(item, str)]
        statements = policies.statements(names, documents)
        notices.extend(policies.notices)
        return statements

    def _preload(self) -> tuple[str, ...]:
        modules = self._metadata.get("Preload", [])
        if not isinstance(modules, list) or not all(_is_module(item) for item in modules):
            text = f"Preload must be a list of modules such as [PIL.Image], got {modules!r}"
            raise self._document.invalid(self._okiba("Preload"), text)
        return tuple(modules)

    def _allow_source(self) -> bool:
        value = self._metadata.get("AllowSourcePackages", False)
        if not isinstance(value, bool):
            text = f"AllowSourcePackages must be true or false, got {value!r}"
            raise self._document.invalid(self._okiba("AllowSourcePackages"), text)
        return value

    def _okiba(self, name: str) -> Place:
        return ("Resources", self._logical_id, "Metadata", "Okiba", name)


def _is_module(name: object) -> bool:
    return isinstance(name, str) and _MODULE.fullmatch(name) is not None
