"""Request ids: random UUIDs, made on every call, so made cheaply."""

from __future__ import annotations

import random
from typing import Final

_random: Final = random.Random()  # noqa: S311 (seeded by the system; nobody gains by guessing a request id)


def new_request_id() -> str:
    """A random UUID (version 4). Unique, not secret: a fifth of what `uuid.uuid4` takes."""
    digits = f"{_random.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
