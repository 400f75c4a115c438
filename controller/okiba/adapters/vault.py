"""Encrypts what the platform must be able to read again: functions' secrets and environments.

SigV4 needs the secret itself, so it cannot be hashed. A sealed text names its format (`v1`), so that a second key or
cipher can join it; it opens only for the purpose that it was sealed for, so that one record's secret put into
another's place is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from okiba.core.errors import InvalidParameter, PlatformError

_FORMAT: Final = "v1:"
_NONCE_BYTES: Final = 12
_KEY_DIGITS: Final = 64


class Vault:
    """AES-256-GCM under a key derived from the platform's.

    Args:
        platform_key: 64 hex digits, `Settings.platform_key`.
    """

    def __init__(self, platform_key: str) -> None:
        try:
            key = bytes.fromhex(platform_key)
        except ValueError:
            key = b""
        if len(key) * 2 != _KEY_DIGITS:
            raise InvalidParameter(
                f"OKIBA_PLATFORM_KEY must be {_KEY_DIGITS} hex digits, got {len(platform_key)} others"
            )
        # The platform's key also derives grants: a key of its own for every use.
        self._cipher = AESGCM(hmac.digest(key, b"vault", hashlib.sha256))

    def seal(self, text: str, purpose: str) -> str:
        """The text, encrypted; another sealed text every time.

        Args:
            purpose: What `open` must name again, such as `secret:OKIA…`.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), purpose.encode())
        return _FORMAT + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, purpose: str) -> str:
        """The text that was sealed for this purpose.

        Raises:
            PlatformError: It was sealed with another platform key or for another purpose, or is damaged.
        """
        try:
            raw = base64.b64decode(sealed.removeprefix(_FORMAT), validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], purpose.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise PlatformError(f"{purpose} does not open: damaged, or sealed with another platform key") from error
