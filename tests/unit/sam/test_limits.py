"""What Lambda and S3 would refuse is refused while the plan is made, with its line; before anything exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from okiba.adapters.sam_template import read_plan
from okiba.core.errors import CallerError

TEMPLATE = """\
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: pass
      Handler: {handler}
      Runtime: {runtime}
      Description: {description}
      FunctionName: {name}
      Environment:
        Variables:
          {variable}
  B:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: {bucket}
"""

FINE = {
    "handler": "index.handler",
    "runtime": "python3.11",
    "description": "d",
    "name": "f",
    "variable": "SIZE: 1",
    "bucket": "photos",
}


def template(folder: Path, **values: str) -> Path:
    path = folder / "template.yaml"
    path.write_text(TEMPLATE.format(**FINE | values))
    return path


def test_values_within_their_limits_are_taken(tmp_path: Path) -> None:
    values = {"handler": "h" * 128, "description": "d" * 256, "name": "n" * 64, "bucket": "a.1-b"}
    (function,) = read_plan(template(tmp_path, **values), "stack", {}).functions
    assert (function.handler, function.name) == ("h" * 128, "n" * 64)


@pytest.mark.parametrize(
    ("values", "line", "said"),
    [
        ({"handler": "index. handler"}, 7, "has a space"),
        ({"handler": "h" * 129}, 7, "129 characters; 128 are allowed"),
        ({"runtime": "python3.9"}, 8, "Runtime must be one of python3.10, "),
        ({"runtime": "nodejs22.x"}, 8, "Runtime must be one of python3.10, "),
        ({"description": "d" * 257}, 9, "257 characters; 256 are allowed"),
        ({"name": "admin"}, 10, "is reserved"),
        ({"name": "n" * 65}, 10, "1 to 64 of"),
        ({"variable": "AWS_REGION: x"}, 13, "AWS_REGION is reserved"),
        ({"variable": "AWS_LAMBDA_FUNCTION_NAME: x"}, 13, "is reserved"),
        ({"variable": "1A: x"}, 13, "the first a letter"),
        ({"variable": f"BIG: {'x' * 4096}"}, 12, "4106 bytes; 4096 are allowed"),
    ],
)
def test_what_lambda_would_refuse_is_refused_at_its_line(
    tmp_path: Path, values: dict[str, str], line: int, said: str
) -> None:
    with pytest.raises(CallerError, match=f"template.yaml:{line}: .*{said}"):
        read_plan(template(tmp_path, **values), "stack", {})


@pytest.mark.parametrize(
    "bucket",
    ["ab", "b" * 64, "Photos", "my_photos", "-photos", "photos-", "a..b", "a.-b", "a-.b", "192.168.5.4", "xn--photos",
     "photos-s3alias", "okiba"],
)  # fmt: skip
def test_a_bucket_that_s3_would_refuse_is_refused_at_its_line(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(CallerError, match=r"template\.yaml:17: "):
        read_plan(template(tmp_path, bucket=bucket), "stack", {})


def test_a_runtime_without_an_interpreter_is_refused_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"template.yaml:8: Runtime: python3\.13 is not installed"):
        read_plan(template(tmp_path, runtime="python3.13"), "stack", {}, is_installed={"python3.11"}.__contains__)
