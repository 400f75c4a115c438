"""Everything that can go wrong, as one tree; its second level says who acts next.

    OkibaError
    ├── CallerError            do not resend: the request itself is wrong (4xx)
    │   ├── InvalidParameter       a field's value is refused; names the field and the limit
    │   ├── InvalidRequestContent  the body is not what it should be (JSON, event, package)
    │   ├── RequestTooLarge        413; says what was seen and what is allowed
    │   ├── NotFound               404
    │   ├── Conflict               409; someone else's state stands in the way
    │   ├── PreconditionFailed     412; the revision named is not the current one
    │   ├── AccessDenied           403; also a bad signature
    │   ├── Throttled              429; the limit is reached, try later
    │   └── Unsupported            a feature that this release does not have, named
    │       └── UnsupportedOperation   501; a whole operation that it does not have
    └── PlatformError          Okiba or its surroundings failed: back to the queue, costs no retry
        ├── SlotLost               the slot died or fell silent under an invocation
        ├── NoSlot                 no slot became free in time
        ├── NotOwner               another gateway owns the function: nothing ran here
        ├── ClusterUnavailable     Kubernetes' API did not answer, or asks for patience
        ├── NotLeading             another controller may lead by now: this one must not act
        └── StoreUnavailable       Redis or the object store did not answer, or is full

Adapters translate vendors' errors into these and chain them. What is unlucky but normal (no slot yet, a late second
outcome) is a value, not an error. A message says what was seen and what was expected.
"""

from __future__ import annotations

from typing import ClassVar


class OkibaError(Exception):
    """The root; `code` is the error's name on the wire (AWS's where AWS has one), `status` its HTTP status."""

    code: str = "ServiceException"
    status: ClassVar[int] = 500


class CallerError(OkibaError):
    """The request is wrong and would be wrong again."""

    code = "InvalidRequest"
    status = 400


class InvalidParameter(CallerError):
    """A field's value is refused; the message names the field, what was seen and what is allowed."""

    code = "InvalidParameterValueException"


class InvalidRequestContent(CallerError):
    """The body could not be read as what it must be."""

    code = "InvalidRequestContentException"


class RequestTooLarge(CallerError):
    """The body is larger than allowed.

    Args:
        seen: Bytes seen, or announced by the sender.
        limit: Bytes allowed.
        operation: AWS's name of what was asked for.
    """

    code = "RequestTooLargeException"
    status = 413

    def __init__(self, seen: int, limit: int, operation: str = "InvokeFunction") -> None:
        super().__init__(f"Request must be smaller than {limit} bytes for the {operation} operation, got {seen}")
        self.seen, self.limit = seen, limit


class NotFound(CallerError):
    """What the request names does not exist."""

    code = "ResourceNotFoundException"
    status = 404


class Conflict(CallerError):
    """The resource is in a state, or in somebody's hands, that forbids this now."""

    code = "ResourceConflictException"
    status = 409


class PreconditionFailed(CallerError):
    """The revision that the caller named is not the current one."""

    code = "PreconditionFailedException"
    status = 412


class AccessDenied(CallerError):
    """Who calls is unknown, or may not do this.

    Args:
        code: The wire name, since AWS tells apart a missing token, an unknown key and a bad signature.
    """

    status = 403

    def __init__(self, message: str, code: str = "AccessDeniedException") -> None:
        super().__init__(message)
        self.code = code


class Throttled(CallerError):
    """A concurrency limit is reached.

    Args:
        reason: AWS's Reason field, such as `ReservedFunctionConcurrentInvocationLimitExceeded`.
    """

    code = "TooManyRequestsException"
    status = 429

    def __init__(self, reason: str = "ConcurrentInvocationLimitExceeded") -> None:
        super().__init__("Rate Exceeded.")
        self.reason = reason


class Unsupported(CallerError):
    """A feature of AWS that this release of Okiba does not have; the message names it."""

    code = "InvalidParameterValueException"


class UnsupportedOperation(Unsupported):
    """An operation of AWS Lambda that this release of Okiba does not have; the message names it."""

    code = "Okiba.Unsupported"
    status = 501


class PlatformError(OkibaError):
    """Okiba or what it stands on failed; the work goes back to the queue at no cost to its retries."""

    code = "ServiceException"
    status = 503


class SlotLost(PlatformError):
    """The slot died or fell silent while an invocation was in it; nothing is known of the invocation's end."""

    status = 502


class NoSlot(PlatformError):
    """No slot became free within the time that a call may wait."""


class ClusterUnavailable(PlatformError):
    """Kubernetes' API did not answer in time, or is overloaded; what was asked for may have been done.

    Args:
        after_s: How long it asks to be left alone; 0 when it says nothing.
    """

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class NotLeading(PlatformError):
    """The controller's Lease was not renewed in time; whoever leads now decides."""


class NotOwner(PlatformError):
    """The function is, or has just become, another gateway's; the call did not run here."""

    status = 421


class StoreUnavailable(PlatformError):
    """Redis or the object store did not answer in time, refused, or is full. Nothing was stored."""
