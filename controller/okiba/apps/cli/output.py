"""How commands print things that are more than a line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from okiba.apps.local.state import default_state_dir

_DIGEST: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def command_line(state: Path, *arguments: str) -> str:
    """An `okiba` command that can be pasted into a shell and talks to this same state folder."""
    here = [] if state == default_state_dir(os.environ) else ["--state", str(state)]
    return shlex.join([program("okiba"), *arguments, *here])


def program(name: str) -> str:
    """How a shell in this folder calls a program of this environment: by name where that finds it, else by path."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(beside) or not beside.exists():
        return name
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def in_columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of text in aligned columns, the first row being their heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def shortened(text: str) -> str:
    """The text with digests of 64 hex digits (layers, packages) cut to their first 12; `--json` has them whole."""
    return _DIGEST.sub(lambda found: found[0][:12], text)


def clock(time_ms: float) -> str:
    """A time of day in UTC, to the second."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def error_text(error: Any) -> str:
    """AWS's error JSON as Python would have printed it."""
    if not isinstance(error, dict):
        return "nothing was said" if error is None else str(error)
    trace = "".join(str(line) for line in error.get("stackTrace") or [])
    head = f"Traceback (most recent call last):\n{trace.rstrip()}\n" if trace else ""
    return f"{head}{error.get('errorType', 'Error')}: {error.get('errorMessage', '')}"
