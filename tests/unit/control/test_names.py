import pytest
from hypothesis import given
from hypothesis import strategies as st

from okiba.core.errors import InvalidParameter, NotFound
from okiba.core.names import FunctionReference, Home, resolve

HOME = Home("us-east-1", "000000000000")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        pytest.param("thumbs", FunctionReference("thumbs"), id="a bare name"),
        pytest.param("thumbs:$LATEST", FunctionReference("thumbs", "$LATEST"), id="a name with its qualifier"),
        pytest.param("000000000000:thumbs", FunctionReference("thumbs"), id="an account and a name"),
        pytest.param("000000000000:function:thumbs", FunctionReference("thumbs"), id="a partial ARN"),
        pytest.param("function:thumbs", FunctionReference("thumbs"), id="the shortest partial ARN"),
        pytest.param("arn:aws:lambda:us-east-1:000000000000:function:thumbs", FunctionReference("thumbs"), id="an ARN"),
        pytest.param(
            "arn:aws:lambda:us-east-1:000000000000:function:thumbs:$LATEST",
            FunctionReference("thumbs", "$LATEST"),
            id="a qualified ARN",
        ),
        pytest.param("A-b_9", FunctionReference("A-b_9"), id="every kind of character"),
        pytest.param("x" * 64, FunctionReference("x" * 64), id="64 characters"),
    ],
)
def test_every_way_to_name_a_function_finds_it(reference, expected):
    assert resolve(reference, HOME) == expected


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param("", id="nothing"),
        pytest.param("a/b", id="a slash"),
        pytest.param("..", id="dots"),
        pytest.param("a\n", id="a newline at the end"),
        pytest.param("x" * 65, id="65 characters"),
        pytest.param("x" * 300, id="more than any ARN"),
        pytest.param("nämlich", id="a letter that is not ASCII"),
        pytest.param("\uff41dmin", id="a look-alike"),
        pytest.param("arn:aws:s3:::thumbs", id="another service's ARN"),
        pytest.param("admin", id="the administrator's own name"),
        pytest.param("arn:aws:lambda:us-east-1:000000000000:function:admin", id="the administrator's name in an ARN"),
        pytest.param("١٢٣", id="digits that are not ASCII"),
    ],
)
def test_what_is_no_function_name_is_refused(reference):
    with pytest.raises(InvalidParameter):
        resolve(reference, HOME)


@pytest.mark.parametrize(
    ("reference", "qualifier"),
    [
        pytest.param("thumbs:prod", "", id="an alias in the name"),
        pytest.param("thumbs", "3", id="a version as parameter"),
        pytest.param("arn:aws:lambda:eu-west-1:000000000000:function:thumbs", "", id="another region"),
        pytest.param("arn:aws:lambda:us-east-1:123456789012:function:thumbs", "", id="another account"),
    ],
)
def test_what_cannot_exist_here_is_not_found(reference, qualifier):
    with pytest.raises(NotFound):
        resolve(reference, HOME, qualifier)


def test_two_qualifiers_that_disagree_are_refused():
    with pytest.raises(InvalidParameter, match="derived qualifier"):
        resolve("thumbs:$LATEST", HOME, "prod")


@given(st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True), st.sampled_from(["", "$LATEST"]))
def test_the_arn_of_a_function_resolves_to_it(name, qualifier):
    if name == "admin":
        return
    assert resolve(HOME.arn(name, qualifier), HOME) == FunctionReference(name, qualifier)
