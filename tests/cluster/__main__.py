"""`python -m tests.cluster build | up | down | load [IMAGE.tar…] | status`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from okiba.core.errors import OkibaError
from tests.cluster import cluster
from tests.cluster.layout import KUBECONFIG
from tests.cluster.making import images


def main() -> None:
    """Runs one command."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="builds what is missing; on a machine that cannot carry it, says why and is done")
    commands.add_parser("up", help="starts it, building what is missing, and prints how to reach it")
    commands.add_parser("down", help="takes it away; what was built stays in the cache")
    commands.add_parser("status", help="what runs")
    load = commands.add_parser(
        "load", help="brings images into its nodes: these, or else the product's, built if need be"
    )
    load.add_argument("archive", nargs="*", type=Path)
    try:
        _run(parser.parse_args())
    except OkibaError as error:
        sys.exit(f"tests.cluster: {error}")


def _run(arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "build":
            cluster.build_if_possible(say)
        case "up":
            cluster.up(say)
            print(f"export KUBECONFIG={KUBECONFIG}")
        case "down":
            cluster.down()
        case "status":
            print("\n".join(cluster.status()))
        case "load":
            images.load(arguments.archive or images.product(), say)


def say(line: str) -> None:
    """Progress, for whoever waits; not on the output, which a shell may evaluate."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
