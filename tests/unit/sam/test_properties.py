"""Decision 19, property by property: honoured, without effect with a warning, or refused; never ignored."""

from __future__ import annotations

import typing
from pathlib import Path
from platform import machine

import pytest
from samtranslator.internal.schema_source import aws_serverless_function as schema
from samtranslator.model.s3 import S3Bucket
from samtranslator.model.sam_resources import SamFunction

from okiba.adapters import sam_properties as tables
from okiba.adapters.sam_properties import Effect, Rule
from okiba.adapters.sam_template import read_plan
from okiba.core.errors import CallerError

TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: pass
      Handler: index.handler
      Runtime: python3.11
      {name}: {{Something: else}}
"""

REFUSED = sorted(name for name, rule in tables.FUNCTION.items() if rule.effect is Effect.REFUSED)
INEFFECTIVE = sorted(name for name, rule in tables.FUNCTION.items() if rule.effect is Effect.WITHOUT_EFFECT)


def test_every_property_of_sams_function_is_in_the_table() -> None:
    assert set(tables.FUNCTION) == set(SamFunction.property_types) == set(schema.Properties.__fields__)


def test_every_kind_of_event_that_sam_has_is_in_the_table() -> None:
    (events, _) = typing.get_args(typing.get_type_hints(schema.Properties)["Events"])
    kinds = typing.get_args(typing.get_args(events)[1])
    assert set(tables.EVENT_TYPES) == {typing.get_args(typing.get_type_hints(kind)["Type"])[0] for kind in kinds}


def test_every_property_of_an_s3_event_is_honoured() -> None:
    assert set(tables.S3_EVENT) == set(schema.S3EventProperties.__fields__)


def test_every_property_of_a_bucket_that_sam_knows_is_in_the_table() -> None:
    assert set(S3Bucket.property_types) - set(tables.BUCKET) <= {"Ref"}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_property_stops_the_deployment_at_its_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE.format(name=name))
    with pytest.raises(CallerError, match=f"template.yaml:9: {name} is refused: "):
        read_plan(path, "stack", {})


@pytest.mark.parametrize("name", INEFFECTIVE)
def test_a_property_without_effect_is_warned_of_with_its_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE.format(name=name).replace("{Something: else}", VALUES.get(name, "text")))
    (function,) = read_plan(path, "stack", {}).functions
    assert [warning for warning in function.warnings if f"template.yaml:9: {name} has no effect: " in warning]


VALUES = {
    "PropagateTags": "true",
    "RuntimeManagementConfig": "{UpdateRuntimeOn: Auto}",
    "SnapStart": "{ApplyOn: PublishedVersions}",
    "Tracing": "Active",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EphemeralStorage", "{Size: 1024}"),
        ("EphemeralStorage", "{}"),
        ("Architectures", "[s390x]"),
        ("Architectures", "[x86_64, arm64]"),
    ],
)
def test_a_machine_that_this_one_is_not_is_refused(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE.format(name=name).replace("{Something: else}", value))
    with pytest.raises(CallerError, match=f"template.yaml:9: {name} is refused: "):
        read_plan(path, "stack", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [("EphemeralStorage", "{Size: 512}"), ("Architectures", {"aarch64": "[arm64]"}.get(machine(), "[x86_64]"))],
)
def test_what_this_machine_is_anyway_needs_no_warning(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE.format(name=name).replace("{Something: else}", value))
    assert read_plan(path, "stack", {}).warnings == ()


def test_every_refusal_and_every_warning_says_why() -> None:
    rules = [rule for table in _all_tables() for rule in table.values()]
    assert all(bool(rule.text) == (rule.effect is not Effect.HONOURED) for rule in rules)


def _all_tables() -> list[dict[str, Rule]]:
    return [
        value
        for value in vars(tables).values()
        if isinstance(value, dict) and value and all(isinstance(rule, Rule) for rule in value.values())
    ]
