"""A site of small Python programs in place of Okiba's, for the supervisor: `python -m tests.fakes.site STATE_DIR`.

Each component writes its process id into STATE_DIR/NAME.pid and says what it sees in STATE_DIR/story: one line a
start, one an orderly end. A name in OKIBA_TEST_BROKEN makes that one fail to start; in OKIBA_TEST_FORKING, start
another process, `grandchild`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from okiba.apps.local.components import Component
from okiba.apps.local.processes import Command
from okiba.apps.local.state import FolderLock
from okiba.apps.local.supervisor import supervise

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
name, state = sys.argv[1], Path(sys.argv[2])
def tell(word):
    with (state / "story").open("a") as story:
        story.write(f"{name} {word}\\n")
def leave(*_):
    tell("ends")
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if name == "stubborn" else leave)
if name in os.environ.get("OKIBA_TEST_BROKEN", ""):
    print("cannot find my configuration")
    sys.exit(3)
tell("starts")
def note(what):
    (state / f"{what}.new").write_text(str(os.getpid()))
    (state / f"{what}.new").rename(state / f"{what}.pid")
note(name)
if name == "bootstrap":
    sys.exit(0)
if name in os.environ.get("OKIBA_TEST_FORKING", "") and os.fork() == 0:
    note("grandchild")
while True:
    time.sleep(60)
"""


class FakeSite:
    """Two stores, a bootstrap and a platform of three."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        (state_dir / "logs").mkdir(exist_ok=True)
        (state_dir / "slots").mkdir(exist_ok=True)

    def stores(self) -> list[Component]:
        return [self._component("valkey"), self._component("minio")]

    def platform(self, environment: Mapping[str, str]) -> list[Component]:
        return [self._component(name) for name in ("gateway", "controller", "jobs")]

    def bootstrap(self, environment: Mapping[str, str]) -> Command:
        return self._component("bootstrap").command

    def _component(self, name: str) -> Component:
        arguments = [sys.executable, "-S", "-c", PROGRAM, name, str(self.state_dir)]
        marker = self.state_dir / f"{name}.pid"

        async def answers() -> bool:
            return marker.exists()

        return Component(Command(name, arguments, dict(os.environ)), answers)


def main(state_dir: Path) -> None:
    """Runs the fake site under the real supervisor, as `okiba up` does with the real one."""
    _, lifeline = os.pipe()
    with FolderLock(state_dir):
        supervise(
            FakeSite(state_dir),  # type: ignore[arg-type]
            os.environ,
            lifeline,
            lambda line: print(line, flush=True),
            lambda: print("ready", flush=True),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
