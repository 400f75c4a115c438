import pytest

from okiba.core.function import Statement
from okiba.core.s3_policy import PLATFORMS_OWN, StoreUser, s3_policy

THUMBS = ("arn:aws:s3:::thumbs", "arn:aws:s3:::thumbs/*")


def entries(*statements):
    *allowed, denied = s3_policy(statements)["Statement"]
    assert denied == PLATFORMS_OWN
    return allowed


def test_s3_statements_are_allowed_as_they_stand():
    assert entries(Statement(("s3:GetObject", "s3:ListBucket"), THUMBS)) == [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": list(THUMBS)}
    ]


def test_actions_that_minio_does_not_have_are_left_out():
    assert entries(Statement(("s3:PutObject", "s3:PutObjectAcl"), THUMBS))[0]["Action"] == ["s3:PutObject"]


def test_actions_and_resources_of_other_services_are_left_out():
    mixed = Statement(("lambda:InvokeFunction", "s3:GetObject"), ("arn:aws:lambda:::function:x", THUMBS[1]))
    assert entries(mixed) == [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [THUMBS[1]]}]


@pytest.mark.parametrize(
    "statements",
    [(), (Statement(("lambda:InvokeFunction",), ("*",)),), (Statement(("s3:GetObject",), ("arn:aws:sqs:::x",)),)],
    ids=["no statement", "none about S3", "no resource of S3"],
)
def test_a_function_without_s3_statements_may_do_nothing(statements):
    assert entries(*statements) == []


def test_patterns_of_actions_become_the_actions_without_regard_to_case():
    statement = Statement(("S3:getobject*Tagging",), THUMBS)
    assert entries(statement)[0]["Action"] == ["s3:GetObjectTagging", "s3:GetObjectVersionTagging"]


@pytest.mark.parametrize("everything", ["*", "s3:*"])
def test_all_actions_are_all_of_s3_and_of_nothing_else(everything):
    assert entries(Statement((everything,), ("*",))) == [
        {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}
    ]


@pytest.mark.parametrize("statements", [(), (Statement(("s3:*",), ("*",)),)], ids=["no statement", "all of S3"])
def test_the_platforms_own_bucket_is_denied_whatever_is_allowed(statements):
    assert s3_policy(statements)["Statement"][-1] == {
        "Effect": "Deny",
        "Action": ["s3:*"],
        "Resource": ["arn:aws:s3:::okiba", "arn:aws:s3:::okiba/*"],
    }


@pytest.mark.parametrize("name", ["thumbnails", "with-dashes-", "okiba-fn-x", "a_b"])
def test_whose_a_user_is_can_be_read_from_its_policys_name(name):
    user = StoreUser(name, "OKIA1234567890ABCDEF")
    assert StoreUser.of_policy(user.policy) == user


@pytest.mark.parametrize("policy", ["readwrite", "okiba-fn-", "okiba-fn-x", "okiba-fn-x-", "consoleAdmin"])
def test_policies_of_others_are_nobodys(policy):
    assert StoreUser.of_policy(policy) is None
