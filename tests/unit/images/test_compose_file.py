"""docker-compose.yml, read and not started (tests/compose does that)."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from okiba.apps.cli.options import PUBLISHED
from okiba.apps.local.contained import STORE_QUEUE, STORE_SETTINGS
from okiba.settings import Settings

ROOT = Path(__file__).parents[3]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
SETTINGS = {f"OKIBA_{field.name.upper()}" for field in fields(Settings)}
OTHERS = {PUBLISHED, STORE_QUEUE, STORE_SETTINGS, "OKIBA_CACHE_DIR"}

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


@each_service
def test_a_site_without_a_registry_can_name_its_own_image(service):
    assert re.fullmatch(r"\$\{OKIBA_\w*IMAGE:-[\w-]+:0\.1\.0\}", service["image"])


@each_service
def test_an_image_can_be_built_where_it_is_not_to_be_had(service):
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert "OKIBA_BASE" in service["build"]["args"]["BASE"]


@each_service
def test_every_variable_means_something(service):
    named = {name for name in service["environment"] if name.startswith("OKIBA_")}
    assert named <= SETTINGS | OTHERS


@each_service
def test_nothing_has_more_rights_than_it_needs(service):
    assert service["user"] == "65532:65532"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid"}
