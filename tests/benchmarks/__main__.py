"""`python -m tests.benchmarks [NAME …]`: runs the benchmarks and prints the table; exit code 0 whatever it says.

Ratios are taken against something measured in the same run. Nothing here is a test: a noisy machine makes bad figures,
not failures.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from tests.benchmarks.report import Row, save, table

NAMES = ("warm", "cold", "events", "burst", "idle", "sweep", "cluster")
RESULT = Path("build/bench.json")


def main(names: list[str]) -> None:
    """Runs those named, or all."""
    rows: list[Row] = []
    for name in names or NAMES:
        print(f"… {name}", flush=True)
        try:
            rows += import_module(f"tests.benchmarks.{name}").run()
        except Exception as error:
            print(f"{name} broke: {error!r}", file=sys.stderr, flush=True)
            rows.append(Row(f"{name}: broke ({type(error).__name__})", 1, "<= 0"))
    print(table(rows))
    RESULT.parent.mkdir(exist_ok=True)
    save(rows, RESULT)
    print(f"\nalso in {RESULT}")


if __name__ == "__main__":
    main(sys.argv[1:])
