"""How Okiba's processes write their logs: time, level, a constant message, then its fields as name=value."""

from __future__ import annotations

import logging
from typing import Final

STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FieldsFormatter(logging.Formatter):
    """A line a record; what was passed as `extra` is appended."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        fields = [f"{name}={value!r}" for name, value in vars(record).items() if name not in STANDARD]
        return " ".join([super().format(record), *fields])


def log_to_stderr(level: str) -> None:
    """Sets logging up for a process: everything from `level` on goes to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldsFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
