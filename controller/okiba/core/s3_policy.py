"""A function's user at the store, and its statements as that user's policy: their S3 part, less our own bucket."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from okiba.core.function import Statement
from okiba.core.policy import matches

S3_ARN: Final = "arn:aws:s3:::"

PLATFORM_BUCKET: Final = "okiba"

# Every function's code and layers lie there, so no function may touch it, whatever its statements allow: a denial
# outdoes them. It is in every policy, also because MinIO refuses one without statements, and every function's user
# needs one: its name is what tells later whose user it was.
PLATFORMS_OWN: Final = {
    "Effect": "Deny",
    "Action": ["s3:*"],
    "Resource": [f"{S3_ARN}{PLATFORM_BUCKET}", f"{S3_ARN}{PLATFORM_BUCKET}/*"],
}

# What this MinIO knows (minio/pkg v3.1.3, policy/action.go). It refuses a whole policy for one action that it does
# not know, and SAM's S3CrudPolicy has one (PutObjectAcl); MinIO has no such calls, so leaving them out denies nothing.
_ACTIONS: Final = """
    AbortMultipartUpload BypassGovernanceRetention CreateBucket DeleteBucket DeleteBucketCors DeleteBucketPolicy
    DeleteObject DeleteObjectTagging DeleteObjectVersion DeleteObjectVersionTagging ForceDeleteBucket
    GetBucketCors GetBucketLocation GetBucketNotification GetBucketObjectLockConfiguration GetBucketPolicy
    GetBucketPolicyStatus GetBucketTagging GetBucketVersioning GetEncryptionConfiguration
    GetLifecycleConfiguration GetObject GetObjectAttributes GetObjectLegalHold GetObjectRetention
    GetObjectTagging GetObjectVersion GetObjectVersionAttributes GetObjectVersionForReplication
    GetObjectVersionTagging GetReplicationConfiguration HeadBucket ListAllMyBuckets ListBucket
    ListBucketMultipartUploads ListBucketVersions ListenBucketNotification ListenNotification
    ListMultipartUploadParts PutBucketCors PutBucketNotification PutBucketObjectLockConfiguration
    PutBucketPolicy PutBucketTagging PutBucketVersioning PutEncryptionConfiguration PutLifecycleConfiguration
    PutObject PutObjectFanOut PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionTagging
    PutReplicationConfiguration ReplicateDelete ReplicateObject ReplicateTags ResetBucketReplicationState
    RestoreObject
"""
KNOWN_ACTIONS: Final = frozenset(f"s3:{name}" for name in _ACTIONS.split())

_POLICY_PREFIX: Final = "okiba-fn-"


@dataclass(frozen=True, slots=True)
class StoreUser:
    """A function's user at the store; whose it is can be read back from its policy's name."""

    function: str
    access_key: str

    @property
    def policy(self) -> str:
        """The name of its policy, which no other user has."""
        return f"{_POLICY_PREFIX}{self.function}-{self.access_key}"

    @classmethod
    def of_policy(cls, policy: str) -> StoreUser | None:
        """Whose policy it is; None when it is none of ours."""
        function, dash, access_key = policy.removeprefix(_POLICY_PREFIX).rpartition("-")
        return cls(function, access_key) if policy.startswith(_POLICY_PREFIX) and dash and access_key else None


def s3_policy(statements: Iterable[Statement]) -> dict[str, Any]:
    """The policy document; one that allows nothing when no statement is about S3, and never the platform's bucket."""
    allowed = [entry for statement in statements if (entry := _entry(statement))]
    return {"Version": "2012-10-17", "Statement": [*allowed, dict(PLATFORMS_OWN)]}


def _entry(statement: Statement) -> dict[str, Any] | None:
    actions = sorted({known for action in statement.actions for known in _known(action)})
    resources = sorted({S3_ARN + "*" if one == "*" else one for one in statement.resources if _is_s3(one)})
    return {"Effect": "Allow", "Action": actions, "Resource": resources} if actions and resources else None


def _known(action: str) -> list[str]:
    """The actions that a pattern stands for; IAM compares them without regard to case, MinIO does not."""
    if action in ("*", "s3:*"):
        return ["s3:*"]
    return [known for known in KNOWN_ACTIONS if matches(action.lower(), known.lower())]


def _is_s3(resource: str) -> bool:
    return resource == "*" or resource.startswith(S3_ARN)
