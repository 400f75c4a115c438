"""The table goal | seen | met, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        seen: As measured, with its unit in `what`.
        goal: The bound, as `<= 1.2` or `>= 2000`; empty for a figure that has none and is printed beside.
    """

    what: str
    seen: float
    goal: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if not self.goal:
            return None
        sign, bound = self.goal.split()
        return self.seen <= float(bound) if sign == "<=" else self.seen >= float(bound)


def table(rows: Iterable[Row]) -> str:
    """The rows for a person."""
    lines = [f"{'what':<86} {'goal':>9} {'seen':>10}  met"]
    for row in rows:
        met = {True: "yes", False: "NO", None: ""}[row.met]
        lines.append(f"{row.what:<86} {row.goal:>9} {row.seen:>10.2f}  {met}")
    return "\n".join(lines)


def save(rows: Iterable[Row], path: Path) -> None:
    """The rows for a program."""
    path.write_text(json.dumps([{**asdict(row), "met": row.met} for row in rows], indent=1) + "\n")
