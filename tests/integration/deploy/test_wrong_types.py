"""Every property of a template with a value of every wrong type: a sweep of the translator, a second or two long."""

from pathlib import Path

import pytest

from okiba.core.errors import CallerError
from tests.unit.sam.test_template import FUNCTION, folder, plan  # noqa: F401 (a fixture)

PROPERTIES = (
    *("Handler", "Runtime", "Environment", "Policies", "Events"),
    *("Tags", "FunctionName", "CodeUri", "Timeout"),
)


@pytest.mark.parametrize(
    "value", ["5", "[1]", "text", "{a: {b: c}}", "null", "true", "[[]]", "[{}]"], ids=lambda value: f"the value {value}"
)
def test_a_value_of_a_wrong_type_is_an_error_of_the_template_and_never_a_traceback(
    folder: Path,  # noqa: F811 (the fixture)
    value: str,
) -> None:
    for name in PROPERTIES:
        text = "\n".join(line for line in FUNCTION.splitlines() if f" {name}:" not in line)
        try:
            plan(folder, f"{text}\n      {name}: {value}\n")
        except CallerError:
            continue
