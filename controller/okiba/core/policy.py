"""Whether a function's statements allow an action on a resource, as IAM decides for `Allow` statements alone."""

from __future__ import annotations

from collections.abc import Iterable

from okiba.core.function import Statement


def allows(statements: Iterable[Statement], action: str, resource: str) -> bool:
    """Whether any statement allows it; what no statement names is denied.

    Args:
        action: `lambda:InvokeFunction`; actions are matched without regard to case, as IAM does.
        resource: An ARN, matched exactly but for wildcards.
    """
    return any(
        mentions((statement,), action) and any(matches(pattern, resource) for pattern in statement.resources)
        for statement in statements
    )


def mentions(statements: Iterable[Statement], action: str) -> bool:
    """Whether any statement allows the action on any resource at all."""
    lowered = action.lower()
    return any(matches(pattern.lower(), lowered) for statement in statements for pattern in statement.actions)


def matches(pattern: str, text: str) -> bool:
    """Whether `text` fits a pattern with `*` (any run) and `?` (any one character); all else stands for itself.

    Steps are at most len(pattern) * len(text): only the last `*` is ever tried again, since giving an earlier one
    more could not help. A regular expression would take exponential time for `*a*a*a*a*b`.
    """
    at, star, resume, i = 0, -1, 0, 0
    while i < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume, at = at, i, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[i]):
            at, i = at + 1, i + 1
        elif star >= 0:
            at, resume = star + 1, resume + 1
            i = resume
        else:
            return False
    return not pattern[at:].strip("*")
