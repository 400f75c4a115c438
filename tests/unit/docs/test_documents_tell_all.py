"""A setting, metric, error or command without its line in the documents is unfinished."""

from dataclasses import fields
from pathlib import Path

import pytest

from okiba.apps.cli import main
from okiba.apps.gateway.metrics import Metrics
from okiba.core import errors
from okiba.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_every_setting_has_its_line(name):
    assert f"| `OKIBA_{name.upper()}` |" in (ROOT / "controller/docs/settings.md").read_text()


def test_every_metric_has_its_line():
    text = (ROOT / "controller/docs/metrics.md").read_text()
    families = [family for family in Metrics().registry.collect() if family.name.startswith("okiba_")]
    assert len(families) > 10
    for family in families:
        shown = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"| `{shown}` |" in text, shown


def test_every_command_is_named_in_the_readme():
    text = (ROOT / "README.md").read_text()
    commands = main.list_commands(None)
    assert len(commands) > 8
    for command in commands:
        assert f"`{command}`" in text or f"okiba {command}" in text or f"`{command} " in text, command


def test_every_error_stands_in_the_tree_at_the_top_of_its_module():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 10
    for each in classes:
        assert each.__name__ in errors.__doc__, each
