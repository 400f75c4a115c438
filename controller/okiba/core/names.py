"""How AWS lets callers name a function: a name, a partial or full ARN, each with a qualifier or without.

The only version here is `$LATEST`; any other qualifier names something that does not exist, exactly as on AWS
before the first version is published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from okiba.core.errors import InvalidParameter, NotFound
from okiba.core.function import LATEST

MAX_NAME: Final = 64
MAX_REFERENCE: Final = 256

# Principals are named `admin` or after their function: one of that name would be the administrator.
RESERVED: Final = frozenset({"admin"})

# botocore's pattern of NamespacedFunctionName, with a group a part; bounded by MAX_REFERENCE before it runs.
_REFERENCE: Final = re.compile(
    r"(?P<arn>arn:(aws[a-zA-Z-]*)?:lambda:)?"
    r"((?P<region>[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}):)?"
    r"((?P<account>[0-9]{12}):)?"
    r"(function:)?"
    r"(?P<name>[a-zA-Z0-9-_]+)"
    r"(:(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]+))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Home:
    """Where this installation's functions live, as ARNs say it."""

    region: str
    account_id: str

    def arn(self, name: str, qualifier: str = "") -> str:
        """A function's ARN, qualified if a qualifier is given."""
        bare = f"arn:aws:lambda:{self.region}:{self.account_id}:function:{name}"
        return f"{bare}:{qualifier}" if qualifier else bare


@dataclass(frozen=True, slots=True)
class FunctionReference:
    """What a caller named: `qualifier` is `$LATEST` or, where none was given, empty."""

    name: str
    qualifier: str = ""


def resolve(reference: str, home: Home, qualifier: str = "") -> FunctionReference:
    """The function that `reference` and the `Qualifier` parameter name together.

    Raises:
        InvalidParameter: It is no function's name, or the two qualifiers disagree.
        NotFound: It lies in another region or account, or names a version or alias (there are none).
    """
    match = _REFERENCE.fullmatch(reference) if len(reference) <= MAX_REFERENCE else None
    if match is None:
        raise _broken(reference, f"satisfy regular expression pattern: {_REFERENCE.pattern}")
    _check_home(reference, match["region"], match["account"], home)
    asked = _agreed(match["qualifier"] or "", qualifier)
    name = checked_name(match["name"])
    if asked not in ("", LATEST):
        raise NotFound(f"Function not found: {home.arn(name, asked)}")
    return FunctionReference(name, asked)


def checked_name(name: str) -> str:
    """The bare name, if a function may be called so.

    Raises:
        InvalidParameter: It is empty, longer than 64 characters, reserved, or has others than letters, digits, `-`
            and `_`.
    """
    if not re.fullmatch(r"[a-zA-Z0-9-_]+", name, re.ASCII):
        raise _broken(name, "satisfy regular expression pattern: [a-zA-Z0-9-_]+")
    if len(name) > MAX_NAME:
        raise _broken(name, f"have length less than or equal to {MAX_NAME}")
    if name in RESERVED:
        raise InvalidParameter(f"A function cannot be called {name!r}: the administrator's key is")
    return name


def _check_home(reference: str, region: str | None, account: str | None, home: Home) -> None:
    if region not in (None, home.region):
        raise NotFound(f"Functions from '{region}' are not reachable in this region ('{home.region}')")
    if account not in (None, home.account_id):
        raise NotFound(f"Function not found: {reference} (this is account {home.account_id})")


def _agreed(in_reference: str, parameter: str) -> str:
    if in_reference and parameter and in_reference != parameter:
        raise InvalidParameter(
            "The derived qualifier from the function name does not match the specified qualifier: "
            f"{in_reference!r} and {parameter!r}"
        )
    return in_reference or parameter


def _broken(value: str, constraint: str) -> InvalidParameter:
    shown = value if len(value) <= MAX_REFERENCE else f"{value[:MAX_REFERENCE]}…"
    return InvalidParameter(
        f"1 validation error detected: Value '{shown}' at 'functionName' failed to satisfy constraint: "
        f"Member must {constraint}"
    )
