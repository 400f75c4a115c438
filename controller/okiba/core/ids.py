"""Request ids: UUIDs, made on every call, so made cheaply."""

from __future__ import annotations

import itertools
import uuid
from typing import Final

# A random UUID (version 4) a process; its last 48 bits are counted up from where chance put them.
_RANDOM: Final = str(uuid.uuid4())
_HEAD: Final = _RANDOM[:24]
_number = itertools.count(int(_RANDOM[24:], 16))


def new_request_id() -> str:
    """An id of a UUID's form: unique, not secret, and cheaper than `uuid.uuid4`."""
    return f"{_HEAD}{next(_number) & 0xFFFFFFFFFFFF:012x}"
