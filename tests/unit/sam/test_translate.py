"""What AWS's translator says on its own is not for whoever deploys."""

from __future__ import annotations

from pathlib import Path

import pytest
from samtranslator.metrics.method_decorator import MetricsMethodWrapperSingleton

from okiba.adapters.sam_template import read_plan
from okiba.core.errors import InvalidParameter

TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: ., Handler: app.handler, Runtime: python3.11, Policies: [%s]}
"""


def unpublished() -> dict[str, object]:
    """What the translator would complain of when it ends."""
    counted: dict[str, object] = MetricsMethodWrapperSingleton.get_instance().metrics_cache
    return counted


def test_the_translator_is_left_with_nothing_to_complain_of(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE % "{S3ReadPolicy: {BucketName: photos}}")
    read_plan(tmp_path / "template.yaml", "shop", {})
    assert not unpublished()


def test_nor_after_it_has_refused_a_template(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE % "{S3ReadPolicy: {Nothing: photos}}")
    with pytest.raises(InvalidParameter):
        read_plan(tmp_path / "template.yaml", "shop", {})
    assert not unpublished()
