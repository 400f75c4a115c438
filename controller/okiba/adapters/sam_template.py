"""`read_plan`: an AWS SAM template as a plan, or one error that says which lines are in the way.

    template.yaml ─ sam_document ─▶ values and lines
                  ─ sam_check ────▶ refusals and warnings, from the tables of sam_properties
                  ─ sam_parameters, sam_intrinsics ▶ every Ref, Sub, GetAtt and Join resolved
                  ─ sam_translate ▶ AWS's own translator: Globals merged, policy templates written out
                  ─ sam_function, sam_events, sam_policies ▶ sam_plan

Reading changes nothing anywhere; carrying a plan out is `okiba deploy`'s.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from okiba.adapters.sam_check import Notice, check_document
from okiba.adapters.sam_document import Document, Place, read_document
from okiba.adapters.sam_function import FunctionReader
from okiba.adapters.sam_intrinsics import Intrinsics
from okiba.adapters.sam_parameters import ParameterValue, parameter_values
from okiba.adapters.sam_plan import FunctionPlan, Plan
from okiba.adapters.sam_translate import CODE_PLACEHOLDER, Translated, translate
from okiba.core.limits import bucket_name_flaw, function_name_flaw

FUNCTION = "AWS::Serverless::Function"
BUCKET = "AWS::S3::Bucket"


def read_plan(
    template: Path,
    stack: str,
    parameters: Mapping[str, str],
    *,
    region: str = "us-east-1",
    account: str = "000000000000",
    is_installed: Callable[[str], bool] = lambda _: True,
) -> Plan:
    """The buckets and functions that the template asks for.

    Args:
        parameters: Values given for the template's Parameters.
        is_installed: Whether there is an interpreter for a runtime where the functions will run.

    Raises:
        NotFound: There is no such file.
        CallerError: The template is wrong or asks for what Okiba does not have; with file and line.
    """
    document = read_document(template)
    notices = check_document(document)
    constants: dict[str, ParameterValue] = {
        **parameter_values(document, parameters),
        "AWS::Region": region,
        "AWS::AccountId": account,
        "AWS::Partition": "aws",
        "AWS::StackName": stack,
        "AWS::StackId": f"arn:aws:cloudformation:{region}:{account}:stack/{stack}/okiba",
        "AWS::URLSuffix": "amazonaws.com",
    }
    return _Template(document, stack, constants, notices, is_installed).plan(template.parent)


class _Template:
    """One checked template on its way to a plan."""

    def __init__(
        self,
        document: Document,
        stack: str,
        constants: Mapping[str, ParameterValue],
        notices: list[Notice],
        is_installed: Callable[[str], bool],
    ) -> None:
        self._document = document
        self._stack = stack
        self._constants = constants
        self._notices = notices
        self._is_installed = is_installed
        self._resources: dict[str, Any] = document.body["Resources"]
        kinds = {logical_id: str(resource["Type"]) for logical_id, resource in self._resources.items()}
        self._kinds = kinds
        self._intrinsics = Intrinsics(document, constants, kinds, self._name, self._arn)

    def plan(self, folder: Path) -> Plan:
        names = self._all_names()
        resolved = self._intrinsics.resolve(self._without_outputs(), ())
        events = {logical_id: self._events(resolved, logical_id) for logical_id in self._of_kind(FUNCTION)}
        code = {logical_id: self._code_uri(resolved, logical_id) for logical_id in events}
        translated = translate(self._document, self._for_translator(resolved), str(self._constants["AWS::Region"]))
        functions = [
            self._function(logical_id, names[logical_id], translated, events[logical_id], code[logical_id], folder)
            for logical_id in events
        ]
        return Plan(
            stack=self._stack,
            buckets=tuple(names[logical_id] for logical_id in self._of_kind(BUCKET)),
            functions=tuple(functions),
            warnings=tuple(notice.text for notice in self._notices),
        )

    def _of_kind(self, kind: str) -> list[str]:
        return [logical_id for logical_id, found in self._kinds.items() if found == kind]

    def _without_outputs(self) -> dict[str, Any]:
        """Parameters are resolved, and Outputs without effect: the translator needs neither."""
        body = self._document.body
        return {key: body[key] for key in ("Transform", "Globals", "Resources") if key in body}

    # --- names ----------------------------------------------------------------------------------------------------

    def _all_names(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for logical_id, kind in self._kinds.items():
            place: Place = ("Resources", logical_id)
            name = self._intrinsics.name(logical_id, place)
            twin = next((other for other in names if names[other] == name and self._kinds[other] == kind), None)
            if twin:
                raise self._document.invalid(place, f"{logical_id} has the same name as {twin}: {name}")
            names[logical_id] = name
        return names

    def _name(self, intrinsics: Intrinsics, logical_id: str) -> str:
        bucket = self._kinds[logical_id] == BUCKET
        key = "BucketName" if bucket else "FunctionName"
        place: Place = ("Resources", logical_id, "Properties", key)
        written = (self._resources[logical_id].get("Properties") or {}).get(key)
        fallback = f"{self._stack}-{logical_id}"
        name = intrinsics.resolve(written, place) if written is not None else fallback.lower() if bucket else fallback
        if not isinstance(name, str):
            raise self._document.invalid(place, f"{key} must be a text, got {name!r}")
        if flaw := bucket_name_flaw(name) if bucket else function_name_flaw(name):
            raise self._document.invalid(place, f"{name!r} {flaw}; set {key}")
        return name

    def _arn(self, kind: str, name: str) -> str:
        if kind == BUCKET:
            return f"arn:aws:s3:::{name}"
        return f"arn:aws:lambda:{self._constants['AWS::Region']}:{self._constants['AWS::AccountId']}:function:{name}"

    # --- what the translator is given ---------------------------------------------------------------------------------

    def _events(self, resolved: dict[str, Any], logical_id: str) -> dict[str, Any]:
        """The function's events, their buckets checked to be of this template, as SAM demands."""
        events = (resolved["Resources"][logical_id].get("Properties") or {}).get("Events", {})
        buckets = {self._intrinsics.name(bucket, ()) for bucket in self._of_kind(BUCKET)}
        for name, event in events.items():
            place = ("Resources", logical_id, "Properties", "Events", name, "Properties", "Bucket")
            bucket = (event.get("Properties") or {}).get("Bucket")
            if bucket not in buckets:
                text = f"the bucket {bucket!r} is not in this template; add it (one that exists stays as it is)"
                raise self._document.invalid(place, text)
        return copy.deepcopy(events)

    def _code_uri(self, resolved: dict[str, Any], logical_id: str) -> object:
        shared = resolved.get("Globals", {}).get("Function", {}).get("CodeUri")
        return (resolved["Resources"][logical_id].get("Properties") or {}).get("CodeUri", shared)

    def _for_translator(self, resolved: dict[str, Any]) -> dict[str, Any]:
        """Code in S3, and buckets of events as references, which is how the translator wants them."""
        by_name = {self._intrinsics.name(bucket, ()): bucket for bucket in self._of_kind(BUCKET)}
        bodies = [resolved["Resources"][logical_id].get("Properties") or {} for logical_id in self._of_kind(FUNCTION)]
        for properties in [*bodies, resolved.get("Globals", {}).get("Function", {})]:
            if "CodeUri" in properties:
                properties["CodeUri"] = CODE_PLACEHOLDER
            for event in properties.get("Events", {}).values():
                event["Properties"]["Bucket"] = {"Ref": by_name[event["Properties"]["Bucket"]]}
        return resolved

    def _function(
        self, logical_id: str, name: str, translated: Translated, events: dict[str, Any], code_uri: object, folder: Path
    ) -> FunctionPlan:
        resource = translated.merged[logical_id]
        metadata = resource.get("Metadata", {}).get("Okiba", {})
        policies = self._intrinsics.resolve(translated.policy_documents(logical_id), ("Resources", logical_id))
        reader = FunctionReader(
            self._document, logical_id, resource["Properties"], events, metadata, self._is_installed
        )
        return reader.plan(name, code_uri, folder, policies, self._notices)
