import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.core.function import Statement
from okiba.core.policy import allows, matches, mentions

THUMBS = "arn:aws:lambda:us-east-1:000000000000:function:thumbs"


@pytest.mark.parametrize(
    ("statement", "action", "resource", "expected"),
    [
        pytest.param(
            Statement(("lambda:InvokeFunction",), (THUMBS,)), "lambda:InvokeFunction", THUMBS, True, id="named"
        ),
        pytest.param(
            Statement(("LAMBDA:invoke*",), ("*",)), "lambda:InvokeFunction", THUMBS, True, id="case of actions"
        ),
        pytest.param(Statement(("lambda:*",), (f"{THUMBS}*",)), "lambda:GetFunction", THUMBS, True, id="wildcards"),
        pytest.param(
            Statement(("lambda:*",), (THUMBS.upper(),)), "lambda:GetFunction", THUMBS, False, id="case of ARNs"
        ),
        pytest.param(Statement(("s3:*",), ("*",)), "lambda:InvokeFunction", THUMBS, False, id="another service"),
        pytest.param(
            Statement(("lambda:*",), (f"{THUMBS}2",)), "lambda:GetFunction", THUMBS, False, id="another function"
        ),
        pytest.param(
            Statement(("lambda:Get[A-Z]*",), ("*",)), "lambda:GetF", THUMBS, False, id="brackets are no classes"
        ),
        pytest.param(Statement((), ()), "lambda:GetFunction", THUMBS, False, id="an empty statement"),
    ],
)
def test_only_what_a_statement_names_is_allowed(statement, action, resource, expected):
    assert allows([statement], action, resource) is expected


def test_action_and_resource_must_be_allowed_by_the_same_statement():
    statements = [Statement(("lambda:GetFunction",), ("other",)), Statement(("s3:GetObject",), (THUMBS,))]
    assert not allows(statements, "lambda:GetFunction", THUMBS)


def test_an_action_is_mentioned_whatever_its_resources():
    assert mentions([Statement(("lambda:Create*",), ("nothing",))], "lambda:CreateFunction")


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=12))
def test_matching_agrees_with_the_regular_expression_it_stands_for(pattern, text):
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    assert matches(pattern, text) == bool(re.fullmatch(expression, text))


def test_a_pattern_made_to_backtrack_takes_no_time():
    began = time.monotonic()
    assert not matches("*a" * 200 + "b", "a" * 2_000)
    assert time.monotonic() - began < 2
