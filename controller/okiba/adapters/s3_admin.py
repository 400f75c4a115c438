"""MinIO as an administrator sees it: buckets, what they announce, and functions' users with their policies.

Everything here blocks and is meant for a thread; each request has deadlines. Whoever a user belongs to is said by the
name of its policy, `okiba-fn-FUNCTION-ACCESSKEY`, since policies can be listed in the clear: what MinIO encrypts for
its administrators (listing users) costs 0.2 s of CPU a call (Argon2), all else 2 to 12 ms.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, MinioException, S3Error
from minio.helpers import check_bucket_name
from minio.minioadmin import _COMMAND
from minio.notificationconfig import (
    CloudFuncConfig,
    NotificationConfig,
    PrefixFilterRule,
    QueueConfig,
    SuffixFilterRule,
    TopicConfig,
)
from urllib3.exceptions import HTTPError

from okiba.adapters.s3_sealing import sealed
from okiba.core.announcing import Target, targets
from okiba.core.binding import Binding
from okiba.core.errors import Conflict, InvalidParameter, NotFound, StoreUnavailable
from okiba.core.notification import Kind, Rule, as_bindings, same_rules, wanted_rules
from okiba.core.s3_policy import StoreUser
from okiba.settings import Settings

CONNECT_S: Final = 2.0
READ_S: Final = 10.0

_ABSENT: Final = frozenset({"XMinioAdminNoSuchUser", "XMinioAdminNoSuchPolicy"})
_REFUSED_VALUES: Final = frozenset(
    {"XMinioAdminInvalidAccessKey", "XMinioAdminInvalidSecretKey", "XMinioMalformedIAMPolicy", "InvalidBucketName"}
)


class _Admin(MinioAdmin):
    """The SDK's, which seals new users' secrets so that it costs neither side 0.13 s."""

    def user_add(self, access_key: str, secret_key: str) -> str:
        user = json.dumps({"status": "enabled", "secretKey": secret_key}).encode()
        body = sealed(user, self._provider.retrieve().secret_key)
        answer = self._url_open(
            method="PUT", command=_COMMAND.ADD_USER, query_params={"accessKey": access_key}, body=body
        )
        return answer.data.decode()


class S3Admin:
    """One MinIO, by its root key."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str, region: str = "us-east-1") -> None:
        parts = urlsplit(endpoint)
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
            maxsize=4,
            retries=urllib3.Retry(1, backoff_factor=0),
        )
        secure = parts.scheme == "https"
        self._store = Minio(
            parts.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region=region,  # known, so that no request asks where a bucket is first
            http_client=pool,
        )
        self._admin = _Admin(
            endpoint=parts.netloc, credentials=StaticProvider(access_key, secret_key), secure=secure, http_client=pool
        )
        # Secrets that this process has set: MinIO does not tell whether a user has the right one, and setting it
        # again on every pass would cost 12 ms of CPU a function.
        self._set_secrets: dict[str, str] = {}

    @classmethod
    def of(cls, settings: Settings) -> S3Admin:
        """The MinIO that the settings name."""
        return cls(settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key, settings.region)

    # --- buckets ----------------------------------------------------------------------------------------------------

    def buckets(self) -> list[str]:
        """Every bucket's name."""
        with _translated("listing buckets"):
            return [bucket.name for bucket in self._store.list_buckets()]

    def ensure_bucket(self, bucket: str) -> None:
        """The bucket exists when this returns.

        Raises:
            InvalidParameter: No bucket can have this name.
            Conflict: It is somebody else's.
        """
        with _translated(f"bucket {bucket}"):
            check_bucket_name(bucket, strict=True)  # MinIO answers a bare 400 to some
            if not self._store.bucket_exists(bucket):
                try:
                    self._store.make_bucket(bucket)
                except S3Error as error:
                    if error.code != "BucketAlreadyOwnedByYou":
                        raise

    def rules(self, bucket: str) -> tuple[Rule, ...]:
        """What the bucket announces, and to whom.

        Raises:
            NotFound: There is no such bucket.
        """
        with _translated(f"notifications of bucket {bucket}"):
            present = self._store.get_bucket_notification(bucket)
        queues = (_rule(config, config.queue, Kind.QUEUE) for config in present.queue_config_list)
        topics = (_rule(config, config.topic, Kind.TOPIC) for config in present.topic_config_list)
        functions = (_rule(config, config.cloud_func, Kind.FUNCTION) for config in present.cloud_func_config_list)
        return (*queues, *topics, *functions)

    def announce(self, bucket: str, bindings: Iterable[Binding], *, only_add: bool = False) -> bool:
        """The bucket announces what these bindings of all functions need; True when that was a change.

        Others' rules stay as they are. Between reading and writing, another administrator's change can be lost: S3
        has no conditional write for this.

        Args:
            only_add: What it announces already it goes on announcing.

        Raises:
            NotFound: There is no such bucket.
        """
        present = self.rules(bucket)
        kept = as_bindings(bucket, present) if only_add else ()
        wanted = wanted_rules(bucket, present, (*bindings, *kept))
        if same_rules(present, wanted):
            return False
        with _translated(f"notifications of bucket {bucket}"):
            self._store.set_bucket_notification(bucket, _notification(wanted))
        return True

    def stored(self, bucket: str, prefix: str) -> list[tuple[str, int]]:
        """Keys below a prefix, each with the wall clock (ms) of when it was stored."""
        with _translated(f"listing {bucket}/{prefix}"):
            found = list(self._store.list_objects(bucket, prefix=prefix, recursive=True))
        return [
            (item.object_name, int(item.last_modified.timestamp() * 1000))
            for item in found
            if item.object_name and item.last_modified
        ]

    def uptimes(self) -> dict[str, float]:
        """How long each server that answers has run (s), by its address."""
        status = self._asked("the store's uptime", self._admin.info) or {}
        servers = [server for server in status.get("servers") or () if server.get("state") == "online"]
        return {str(server.get("endpoint", "")): float(server.get("uptime") or 0) for server in servers}

    def targets(self) -> dict[str, Target]:
        """The webhooks that MinIO knows, by name. Reading their addresses costs it 0.2 s of CPU (Argon2)."""
        what = "webhook targets"
        status = self._asked(what, self._admin.info) or {}
        with _translated(what):
            try:
                configuration = self._admin.config_get("notify_webhook")
            except UnboundLocalError as error:  # the SDK's own, in place of what it was told
                raise StoreUnavailable(f"{what}: the object store does not tell its configuration") from error
        return targets(status, configuration)

    # --- users ------------------------------------------------------------------------------------------------------

    def users(self) -> list[StoreUser]:
        """Every function's user that Okiba has made."""
        policies = self._asked("listing policies", self._admin.policy_list)
        return [user for name in policies if (user := StoreUser.of_policy(name))]

    def ensure_user(self, user: StoreUser, secret: str, policy: Mapping[str, Any], *, enabled: bool = True) -> None:
        """The user exists with this secret and exactly this policy, and may use them if it is enabled.

        Raises:
            InvalidParameter: MinIO refuses the keys (3 to 20 and 8 to 40 characters) or the policy.
        """
        what = f"user of function {user.function}"
        known = self._asked(what, self._admin.user_info, user.access_key)
        if known is None or self._set_secrets.get(user.access_key) != secret:
            self._told(what, self._admin.user_add, user.access_key, secret)
            self._set_secrets[user.access_key] = secret
            known = self._asked(what, self._admin.user_info, user.access_key) or {}
        if enabled and known.get("status") != "enabled":
            self._told(what, self._admin.user_enable, user.access_key)
        present = self._asked(what, self._admin.policy_info, user.policy)
        if not _same_policy(present, policy):
            with _translated(what):
                self._admin.policy_add(user.policy, policy=dict(policy))
        # MinIO refuses to give a disabled user a policy, so disabling comes last and enabling first.
        if known.get("policyName") != user.policy and (enabled or known.get("status") == "enabled"):
            with _translated(what):
                self._admin.policy_set(user.policy, user=user.access_key)
        if not enabled and known.get("status") == "enabled":
            self._told(what, self._admin.user_disable, user.access_key)

    def remove_user(self, user: StoreUser) -> None:
        """Neither the user nor its policy exists when this returns."""
        what = f"user of function {user.function}"
        self._set_secrets.pop(user.access_key, None)
        self._asked(what, self._admin.user_remove, user.access_key)
        # Last, since its name is what tells the next attempt that there is something to remove.
        self._asked(what, self._admin.policy_remove, user.policy)

    def _asked(self, what: str, call: Any, *arguments: str) -> Any:
        """The JSON that MinIO answers; None when what was asked about does not exist."""
        with _translated(what):
            try:
                return json.loads(call(*arguments) or "{}")
            except MinioAdminException as error:
                if _code(error) in _ABSENT:
                    return None
                raise

    def _told(self, what: str, call: Any, *arguments: str) -> None:
        with _translated(what):
            call(*arguments)


def _rule(config: QueueConfig | TopicConfig | CloudFuncConfig, arn: str | None, kind: Kind) -> Rule:
    prefix, suffix = config.prefix_filter_rule, config.suffix_filter_rule
    return Rule(
        id=config.config_id or "",
        arn=arn or "",
        events=tuple(config.events),
        prefix=prefix.value if prefix else None,
        suffix=suffix.value if suffix else None,
        kind=kind,
    )


def _notification(rules: Iterable[Rule]) -> NotificationConfig:
    queues: list[QueueConfig] = []
    topics: list[TopicConfig] = []
    functions: list[CloudFuncConfig] = []
    for rule in rules:
        parts = _parts(rule)
        if rule.kind is Kind.QUEUE:
            queues.append(QueueConfig(queue=rule.arn, **parts))
        elif rule.kind is Kind.TOPIC:
            topics.append(TopicConfig(topic=rule.arn, **parts))
        else:
            functions.append(CloudFuncConfig(cloud_func=rule.arn, **parts))
    return NotificationConfig(functions, queues, topics)


def _parts(rule: Rule) -> dict[str, Any]:
    return {
        "events": list(rule.events),
        "config_id": rule.id or None,
        "prefix_filter_rule": None if rule.prefix is None else PrefixFilterRule(rule.prefix),
        "suffix_filter_rule": None if rule.suffix is None else SuffixFilterRule(rule.suffix),
    }


def _same_policy(present: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    return present is not None and _statements(present) == _statements(wanted)


def _statements(policy: Mapping[str, Any]) -> set[tuple[str, frozenset[str], frozenset[str]]]:
    return {
        (entry["Effect"], frozenset(entry.get("Action", ())), frozenset(entry.get("Resource", ())))
        for entry in policy.get("Statement", ())
    }


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Vendors' errors as ours, chained."""
    try:
        yield
    except S3Error as error:
        if error.code == "NoSuchBucket":
            raise NotFound(f"{what}: no such bucket") from error
        if error.code == "BucketAlreadyExists":
            raise Conflict(f"{what} belongs to somebody else") from error
        raise _refusal(what, error.code or "", error.message or "") from error
    except MinioAdminException as error:
        raise _refusal(what, _code(error), str(error)) from error
    except (MinioException, HTTPError, OSError) as error:
        raise StoreUnavailable(f"{what}: the object store did not answer: {error}") from error
    except ValueError as error:  # what the SDK itself refuses, such as a bucket's name
        raise InvalidParameter(f"{what}: {error}") from error


def _refusal(what: str, code: str, message: str) -> InvalidParameter | StoreUnavailable:
    """A value that MinIO will never take; all else may be mended by its administrator."""
    if code in _REFUSED_VALUES:
        return InvalidParameter(f"{what}: the object store refuses it: {message}")
    if "destination ARN" in message:
        return StoreUnavailable(f"{what}: MinIO does not know Okiba's webhook targets; they belong in its environment")
    return StoreUnavailable(f"{what}: the object store refused: {code or message}")


def _code(error: MinioAdminException) -> str:
    """MinIO's own code in an administrative answer, which the SDK leaves in the body."""
    try:
        return str(json.loads(error._body)["Code"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
