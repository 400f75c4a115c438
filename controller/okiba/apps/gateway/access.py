"""Who calls, and may he: SigV4 against the keys that Okiba issued, then the caller's own statements.

Every request of the public port passes here before its body means anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest, sha256
from typing import IO, Final

from okiba.apps.gateway.http import Head
from okiba.core import policy, sigv4
from okiba.core.errors import AccessDenied
from okiba.flow.catalogue import Catalogue
from okiba.ports import Principal

ADMIN: Final = "admin"
SERVICE: Final = "lambda"
_NOBODY: Final = Principal("", "", "", enabled=False)
EVERYONE: Final = Principal("", "", ADMIN)
_NO_SECRET: Final = "0" * 40
AT_ONCE: Final = 256 * 1024
"""Bytes that are hashed in the data loop, in 0.3 ms; for more, others would wait."""
# Threads of its own: others may all wait for a store that does not answer.
_HASHING: Final = ThreadPoolExecutor(2, "digest")


async def digest(body: bytes | IO[bytes]) -> str:
    """The SHA-256 of a request's body, in hex, as a signature has it. A file is at its start again afterwards."""
    if isinstance(body, bytes) and len(body) <= AT_ONCE:
        return sha256(body).hexdigest()
    return await asyncio.get_running_loop().run_in_executor(_HASHING, _digest, body)


def _digest(body: bytes | IO[bytes]) -> str:
    if isinstance(body, bytes):
        return sha256(body).hexdigest()
    found = file_digest(body, "sha256")  # type: ignore[arg-type]  # a temporary file, which reads into buffers
    body.seek(0)
    return found.hexdigest()


class Access:
    """Authenticates and authorises.

    Args:
        signatures: Whether signatures are asked for; without, every caller is the administrator.
        clock: Wall clock in seconds.
    """

    def __init__(self, catalogue: Catalogue, signatures: bool, clock: Callable[[], float], region: str) -> None:
        self._region = region
        self._catalogue = catalogue
        self._signatures = signatures
        self._clock = clock

    def claim(self, head: Head) -> sigv4.Claim | None:
        """What the request claims, checked as far as it can be without its body: cheap, and before any byte is read.

        Raises:
            AccessDenied: Not signed, or for another time, or by an unknown key.
        """
        if not self._signatures:
            return None
        claim = sigv4.read_claim(head.headers, head.query, self._clock(), self._region, SERVICE)
        principal = self._catalogue.principal(claim.access_key)
        if principal is None or not principal.enabled:
            raise AccessDenied("The security token included in the request is invalid.", "UnrecognizedClientException")
        return claim

    def prove(self, claim: sigv4.Claim, head: Head, body_sha256: str) -> Principal:
        """The caller, once the whole request is known.

        Raises:
            AccessDenied: The signature is wrong, or the key has been withdrawn meanwhile.
        """
        principal = self._catalogue.principal(claim.access_key) or _NOBODY
        secret = principal.secret or _NO_SECRET
        sigv4.verify(claim, secret, head.method, head.raw_path, head.query, head.headers, body_sha256)
        return principal

    def check_invoke(self, caller: Principal, function_arn: str) -> None:
        """Returns if the caller may invoke the function.

        Raises:
            AccessDenied: His statements do not say so.
        """
        if caller.name == ADMIN:
            return
        function = self._catalogue.function(caller.name)
        if function is None or not policy.allows(function.statements, "lambda:InvokeFunction", function_arn):
            raise AccessDenied(
                f"User: {caller.name} is not authorized to perform: lambda:InvokeFunction on resource: {function_arn} "
                "because no identity-based policy allows the lambda:InvokeFunction action"
            )
