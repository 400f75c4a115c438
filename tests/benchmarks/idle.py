"""What Okiba costs while nothing happens."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.benchmarks.report import Row
from tests.installation import Installation, children, installation

PARTS = ("gateway", "controller", "jobs")
SETTLE_S = 20
WATCH_S = 20
TICK = os.sysconf("SC_CLK_TCK")


def run() -> list[Row]:
    """The figures."""
    with installation() as here:
        here.deploy_inline("idle", "def handler(event, context):\n    return None\n")
        here.invoke("idle")
        time.sleep(SETTLE_S)
        slots = _slots(here)
        parts = [pid for part in PARTS for pid in _tree(here.pid(part)) if pid not in slots]
        before, start = sum(map(ticks, parts)), time.monotonic()
        slot_before = sum(map(ticks, slots))
        time.sleep(WATCH_S)
        elapsed = time.monotonic() - start
        return [
            Row("idle: gateway, controller and jobs, PSS MB", sum(map(pss_kb, parts)) / 1024, "<= 250"),
            Row("idle: gateway, controller and jobs, % of a core", _percent(parts, before, elapsed), "<= 2"),
            Row("idle: default pool's slots, PSS MB", sum(map(pss_kb, slots)) / 1024),
            Row("idle: default pool's slots, % of a core", _percent(slots, slot_before, elapsed)),
        ]


def _percent(pids: list[int], before: int, elapsed: float) -> float:
    return (sum(map(ticks, pids)) - before) / TICK / elapsed * 100


def _slots(here: Installation) -> list[int]:
    return [pid for agent in here.slot_pids() for pid in _tree(agent)]


def _tree(pid: int) -> list[int]:
    return [pid, *(below for child in children(pid) for below in _tree(child))]


def ticks(pid: int) -> int:
    """Processor time that the process has had."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def pss_kb(pid: int) -> int:
    """A process's proportional share of memory."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
