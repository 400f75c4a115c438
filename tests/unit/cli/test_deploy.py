"""`okiba deploy` before it reaches Okiba: templates found, parameters read, refusals told."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from okiba.apps.cli import main
from okiba.apps.cli.client import OkibaClient
from okiba.apps.cli.deploy import _copying, origin_of, plan_of
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


def elsewhere(server: StandIn, origin: str) -> None:
    """Okiba has a function of the stack `shop` that was deployed from there."""
    record = {"name": "shop-Buy", "managed_by": "stack shop", "origin": origin}
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": [{"FunctionName": "shop-Buy"}]})
    server.answers["GET /okiba/v1/functions/shop-Buy"] = Answer(record)
    server.answers["PUT /okiba/v1/buckets/photos"] = Answer({"bucket": "photos", "created": False})


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "template.yaml").write_text(BUCKET)
    return folder


def test_another_folder_of_the_same_name_is_another_stack(server: StandIn, okiba: Okiba, shop: Path) -> None:
    elsewhere(server, "laptop:/home/me/shop/template.yaml")
    ran = okiba("deploy", str(shop))
    assert ran.exit_code == 1
    here = origin_of(shop, None).place
    assert f"the stack shop was deployed from laptop:/home/me/shop/template.yaml, and this is {here}." in ran.stderr
    assert "--stack NAME" in ran.stderr
    assert [asked for asked in server.asked() if not asked.startswith("GET")] == []


def test_whoever_names_the_stack_may_take_it_over(server: StandIn, okiba: Okiba, shop: Path) -> None:
    elsewhere(server, "laptop:/home/me/shop/template.yaml")
    assert okiba("deploy", str(shop), "--stack", "shop").exit_code == 0


@pytest.mark.parametrize("origin", ["of this folder", ""], ids=["this folder's own", "of an earlier release"])
def test_a_stack_from_here_is_deployed_again(server: StandIn, okiba: Okiba, shop: Path, origin: str) -> None:
    elsewhere(server, origin and origin_of(shop, None).place)
    ran = okiba("deploy", str(shop))
    assert ran.exit_code == 0
    assert "warning: shop-Buy is no more in the template" in ran.stderr


def test_two_templates_in_one_folder_are_two_origins(shop: Path) -> None:
    (shop / "other.yaml").write_text(BUCKET)
    assert origin_of(shop, None).place.endswith("/shop/template.yaml")
    assert origin_of(shop / "other.yaml", None).place.endswith("/shop/other.yaml")


def test_a_template_is_deployed_to_an_okiba_that_has_no_folder_here(
    server: StandIn, shop: Path, tmp_path: Path
) -> None:
    client = OkibaClient.from_state(server.state)
    text = (shop / "template.yaml").read_text().replace("!Ref N", "!Sub 'photos-${AWS::Region}'")
    (shop / "template.yaml").write_text(text)
    server.answers["GET /2015-03-31/functions"] = Answer({"Functions": []})
    server.answers["PUT /okiba/v1/buckets/photos-eu-west-1"] = Answer({})
    told = {
        "OKIBA_STATE_DIR": "",
        "HOME": str(tmp_path),
        "OKIBA_ENDPOINT": client.endpoint,
        "AWS_ENDPOINT_URL_S3": client.s3_endpoint,
        "AWS_ACCESS_KEY_ID": client.access_key,
        "AWS_SECRET_ACCESS_KEY": client.secret_key,
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    ran = CliRunner(env=told).invoke(main, ["deploy", str(shop)])
    assert (ran.exit_code, ran.stdout) == (0, "bucket photos-eu-west-1: ready\n")


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


def test_a_layer_that_nobody_has_begun_is_told_as_such() -> None:
    assert _progress({"layer": {"phase": "unknown"}}) == "layer not begun yet"


@pytest.mark.parametrize("installed", [True, False], ids=["with the aws CLI", "without it"])
def test_what_to_try_next_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    (tmp_path / "aws").write_text("#!/bin/sh\n")
    (tmp_path / "aws").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) if installed else "/nowhere")
    command = _copying("FILE.jpg", "photos", "in/")
    expected = (
        "aws s3 cp FILE.jpg s3://photos/in/" if installed else """upload_file("FILE.jpg", "photos", "in/FILE.jpg")'"""
    )
    assert command.endswith(expected)
