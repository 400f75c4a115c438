"""`okiba deploy` before it reaches Okiba: templates found, parameters read, refusals told."""

from __future__ import annotations

from pathlib import Path

import pytest

from okiba.apps.cli.deploy import plan_of
from okiba.apps.cli.deployment import _progress
from okiba.apps.cli.output import command_line
from okiba.core.errors import CallerError, InvalidParameter, NotFound
from okiba.core.names import Home
from tests.unit.cli.conftest import Okiba
from tests.unit.cli.stand_in import Answer, StandIn

BUCKET = "Transform: AWS::Serverless-2016-10-31\nParameters: {N: {Type: String, Default: photos}}\n" + (
    "Resources: {B: {Type: AWS::S3::Bucket, Properties: {BucketName: !Ref N}}}\n"
)


@pytest.mark.parametrize("name", ["template.yaml", "template.yml"])
def test_the_template_of_a_folder_is_found_by_its_usual_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(BUCKET)
    assert plan_of(tmp_path, None).buckets == ("photos",)


def test_a_template_may_be_named_itself(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(BUCKET)
    assert plan_of(tmp_path / "other.yaml", "s", ["N=pictures"]).buckets == ("pictures",)


@pytest.mark.parametrize(
    ("folder", "stack"), [("shop", "shop"), ("01-my_photos v2", "01-my-photos-v2"), ("写真", "stack")]
)
def test_a_stack_is_named_after_its_folder(tmp_path: Path, folder: str, stack: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "template.yaml").write_text(BUCKET)
    assert plan_of(tmp_path / folder, None).stack == stack


def test_a_folder_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no template\.yaml in"):
        plan_of(tmp_path, None)


@pytest.mark.parametrize("parameter", ["N", "=x", ""])
def test_a_parameter_without_name_or_value_is_refused(tmp_path: Path, parameter: str) -> None:
    (tmp_path / "template.yaml").write_text(BUCKET)
    with pytest.raises(InvalidParameter, match="--parameter must be NAME=VALUE"):
        plan_of(tmp_path, None, [parameter])


@pytest.mark.parametrize("stack", ["", "a b", "-x", "x" * 65])
def test_a_stack_name_that_functions_cannot_begin_with_is_refused(tmp_path: Path, stack: str) -> None:
    (tmp_path / "template.yaml").write_text(BUCKET)
    with pytest.raises(CallerError, match="--stack"):
        plan_of(tmp_path, stack)


def test_a_template_of_buckets_alone_makes_these(server: StandIn, okiba: Okiba, tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(BUCKET)
    server.answers["PUT /okiba/v1/buckets/photos"] = Answer({"bucket": "photos", "created": True}, 201)
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": []})
    ran = okiba("deploy", str(tmp_path))
    assert (ran.exit_code, ran.stdout) == (0, "bucket photos: ready\n")


def test_nothing_is_asked_of_okiba_when_the_template_is_refused(server: StandIn, okiba: Okiba, tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(BUCKET + "Conditions: {}\nMappings: {}\n")
    ran = okiba("deploy", str(tmp_path))
    assert ran.exit_code == 1
    assert [line.split(": ")[-2].split()[0] for line in ran.stderr.splitlines()] == ["Conditions", "Mappings"]
    assert server.requests == []


def test_requirements_that_pip_must_not_see_are_refused_before_anything_is_touched(
    server: StandIn, okiba: Okiba, tmp_path: Path
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/app.py").write_text("")
    (tmp_path / "src/requirements.txt").write_text("--index-url http://evil.example\n")
    properties = "{CodeUri: src, Handler: app.handler, Runtime: python3.11}"
    function = f"Resources: {{F: {{Type: AWS::Serverless::Function, Properties: {properties}}}}}\n"
    (tmp_path / "template.yaml").write_text(f"Transform: AWS::Serverless-2016-10-31\n{function}")
    ran = okiba("deploy", str(tmp_path))
    assert ran.exit_code == 1
    assert "requirements line 1" in ran.stderr
    assert server.requests == []


def test_commands_to_paste_name_the_state_folder_only_where_it_is_not_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OKIBA_STATE_DIR", str(tmp_path))
    assert command_line(tmp_path, "list").endswith("okiba list")
    assert command_line(tmp_path / "an other", "list").endswith(f"okiba list --state '{tmp_path}/an other'")


def test_arns_name_the_installations_region_and_account(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  B:\n    Type: AWS::S3::Bucket\n    Properties:\n"
        "      BucketName: !Sub photos-${AWS::Region}-${AWS::AccountId}\n"
    )
    home = Home("eu-west-1", "123456789012")
    assert plan_of(tmp_path, None, home=home).buckets == ("photos-eu-west-1-123456789012",)


def test_progress_names_what_the_last_attempt_failed_of() -> None:
    layer = {"phase": "resolving", "progress": "", "error": "pip says\nno route to host"}
    assert _progress({"layer": layer}) == "layer resolving (the last attempt failed: no route to host)"
