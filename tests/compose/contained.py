"""Okiba in containers, as its user outside of them talks to it: by what `okiba env` in one of them prints."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.request import urlopen

from tests.compose.podman import Stack
from tests.installation import OKIBA, Talks, exports_in, metric_in


@dataclass
class Contained(Talks):
    """One stack's Okiba."""

    stack: Stack

    @cached_property
    def variables(self) -> dict[str, str]:
        """What `docker compose exec gateway okiba env` exports."""
        return exports_in(self.stack.compose("exec", "-T", "gateway", "okiba", "env"))

    def okiba(self, *arguments: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Runs the CLI on this machine, outside of all containers."""
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("OKIBA_", "AWS_"))}
        environment = {**surroundings, **self.variables, "HOME": str(self.stack.folder)}
        ran = subprocess.run(
            [*OKIBA, *arguments], env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or ran.returncode == 0, f"okiba {arguments} exited {ran.returncode}: {ran.stdout}{ran.stderr}"
        return ran

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all labels but those given; the admin port is reached on the containers' network."""
        networks: dict[str, Any] = self.stack.inspected("gateway")["NetworkSettings"]["Networks"]
        address = next(iter(networks.values()))["IPAddress"]
        with urlopen(f"http://{address}:4567/metrics", timeout=10) as page:
            return metric_in(page.read().decode(), name, **labels)
