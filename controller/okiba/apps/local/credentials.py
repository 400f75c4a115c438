"""The secrets of one installation: credentials.json in its state folder, readable by its owner alone.

Made once, on the first start. Losing the file loses every stored secret (they are encrypted with `platform_key`), so a
corrupt one is refused and never replaced.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from okiba.apps.local.state import read_document, write_document
from okiba.core.errors import InvalidRequestContent


@dataclass(frozen=True, slots=True)
class Credentials:
    """What only this installation knows.

    Args:
        admin_access_key: The user's own key, valid for Okiba and for MinIO (decision: one key pair, two verifiers).
        s3_access_key: MinIO's root key; only the platform has it.
        webhook_token: What MinIO says to prove that a notification is its own.
        platform_key: 64 hex digits; encrypts stored secrets and derives slots' grants.
    """

    admin_access_key: str
    admin_secret_key: str
    s3_access_key: str
    s3_secret_key: str
    webhook_token: str
    platform_key: str


def read_credentials(state_dir: Path) -> Credentials:
    """The installation's credentials.

    Raises:
        NotFound: The folder has none.
        InvalidRequestContent: The file is corrupt.
    """
    path = state_dir / "credentials.json"
    document = read_document(path)
    names = [field.name for field in fields(Credentials)]
    for name in names:
        if not isinstance(document.get(name), str) or not document[name]:
            raise InvalidRequestContent(f"{path} is corrupt: {name} is missing; restore the file from a backup")
    return Credentials(**{name: document[name] for name in names})


def ensure_credentials(state_dir: Path) -> Credentials:
    """The installation's credentials, made now if this is its first start.

    Raises:
        InvalidRequestContent: The file is corrupt, or lost: new keys could not read what the old ones encrypted.
    """
    path = state_dir / "credentials.json"
    if path.exists():
        return read_credentials(state_dir)
    if (state_dir / "okiba.json").exists():
        raise InvalidRequestContent(f"{path} is lost, and stored secrets cannot be read without it; restore it")
    made = Credentials(
        admin_access_key=f"OKIA{secrets.token_hex(8).upper()}",
        admin_secret_key=secrets.token_urlsafe(30),
        s3_access_key=f"OKIR{secrets.token_hex(8).upper()}",
        s3_secret_key=secrets.token_urlsafe(30),
        webhook_token=secrets.token_urlsafe(32),
        platform_key=secrets.token_hex(32),
    )
    write_document(path, asdict(made))
    return made
