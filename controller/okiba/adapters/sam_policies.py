"""What a function may do: IAM policy documents as Okiba's statements.

The translator has already turned SAM's policy templates (S3ReadPolicy, LambdaInvokePolicy …) into documents. Only
`Allow` without conditions has a counterpart in a MinIO policy and in Okiba's own check; anything that would narrow a
grant is refused rather than dropped, since dropping it would widen the grant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from okiba.adapters.sam_check import Notice, mapping
from okiba.adapters.sam_document import Document, Place
from okiba.core.function import Statement

SERVICES: Final = ("s3", "lambda")
"""The services behind whose actions there is something here."""

_EVERYTHING = ("*",)

MANAGED: Final[dict[str, tuple[Statement, ...]]] = {
    "AWSLambdaBasicExecutionRole": (),  # writing logs, which here needs no right
    "AWSLambdaExecute": (Statement(("s3:GetObject", "s3:PutObject"), ("arn:aws:s3:::*",)),),
    "AWSLambdaRole": (Statement(("lambda:InvokeFunction",), _EVERYTHING),),
    "AmazonS3FullAccess": (Statement(("s3:*",), _EVERYTHING),),
    "AmazonS3ReadOnlyAccess": (Statement(("s3:Get*", "s3:List*"), _EVERYTHING),),
}
"""AWS's managed policies that mean something here."""

_HONOURED_KEYS = {"Sid", "Effect", "Action", "Resource"}


class Policies:
    """Reads the policies of one function; `notices` then has what grants nothing here."""

    def __init__(self, document: Document, logical_id: str, place: Place) -> None:
        self._document = document
        self._logical_id = logical_id
        self._place = place
        self.notices: list[Notice] = []

    def statements(self, names: Sequence[str], documents: Sequence[dict[str, Any]]) -> tuple[Statement, ...]:
        """The statements of managed policies, by name or ARN, and of policy documents.

        Raises:
            Unsupported: A managed policy that Okiba does not know, a Deny, a condition.
            InvalidParameter: Something is not a policy.
        """
        managed = [statement for name in names for statement in self._managed(name)]
        written = [statement for document in documents for statement in self._document_statements(document)]
        return tuple(dict.fromkeys([*managed, *written]))

    def _managed(self, policy: str) -> tuple[Statement, ...]:
        name = policy.rsplit("/", 1)[-1]
        if name not in MANAGED:
            known = ", ".join(MANAGED)
            text = f"the managed policy {policy} is refused; write statements, or one of: {known}"
            raise self._document.unsupported(self._place, text)
        return MANAGED[name]

    def _document_statements(self, policy: object) -> Iterator[Statement]:
        written = mapping(self._document, self._place, policy).get("Statement")
        for statement in written if isinstance(written, list) else [written]:
            yield from self._statement(mapping(self._document, self._place, statement))

    def _statement(self, written: dict[str, Any]) -> Iterator[Statement]:
        if strange := sorted(set(written) - _HONOURED_KEYS):
            text = f"{strange[0]} in a policy statement is refused; grant less, by Action and Resource alone"
            raise self._document.unsupported(self._place, text)
        if written.get("Effect") != "Allow":
            text = f"Effect must be Allow, got {written.get('Effect')!r}; grant less instead of denying"
            raise self._document.unsupported(self._place, text)
        actions = self._texts(written.get("Action"), "Action")
        resources = self._texts(written.get("Resource"), "Resource")
        if granted := tuple(action for action in actions if self._means_something(action)):
            yield Statement(granted, resources)

    def _means_something(self, action: str) -> bool:
        service = action.partition(":")[0]
        if action == "*" or service in SERVICES:
            return True
        if service != "logs":  # writing logs needs no right here, so nothing is lost
            text = f"{action} grants nothing: Okiba has no {service}"
            self.notices.append(Notice(self._logical_id, self._document.at(self._place, text)))
        return False

    def _texts(self, value: object, what: str) -> tuple[str, ...]:
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise self._document.invalid(self._place, f"{what} of a policy statement must be a text or a list of texts")
        return tuple(texts)
