"""Puts the policies' table into each node, and again whenever it changes; runs until it is ended."""

from __future__ import annotations

import subprocess
import time
from typing import Final

from tests.cluster.layout import NODES
from tests.cluster.parts.api import Api
from tests.cluster.parts.node import run_inside
from tests.cluster.policies.rules import table
from tests.cluster.policies.watching import WatchedWorld

GATHER_S: Final = 0.03
"""Changes come in swarms: a pod's life is half a dozen of them."""


def main() -> None:
    """Follows the API server and the nodes obey."""
    world = WatchedWorld(Api("policies"))
    world.await_lists()
    in_force = ""
    while True:
        world.changed.wait()
        time.sleep(GATHER_S)
        world.changed.clear()
        wanted = table(world.now())
        if wanted != in_force and _obeyed(wanted):
            in_force = wanted


def _obeyed(script: str) -> bool:
    try:
        for node in NODES:
            run_inside(node, ["nft", "-f", "-"], stdin=script)
    except subprocess.CalledProcessError as error:
        print(f"nft refused: {error.stderr}\n{script}", flush=True)
        return False
    return True


if __name__ == "__main__":
    main()
