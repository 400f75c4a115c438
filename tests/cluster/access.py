"""A cluster as tests see it: whatever `kubectl` reaches with a kubeconfig."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALL_S = 60.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster to test on.

    Args:
        own: It is the suite's own, whose nodes and parts can be stopped.
    """

    kubeconfig: Path
    own: bool

    @property
    def environment(self) -> dict[str, str]:
        """For programs that are to use it: helm, kubectl, the product."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = CALL_S) -> str:
        """What kubectl says.

        Raises:
            AssertionError: It failed; the message is what it complained of.
        """
        ran = subprocess.run(
            ["kubectl", *arguments], env=self.environment, input=stdin, capture_output=True, text=True, timeout=seconds
        )
        assert ran.returncode == 0, f"kubectl {' '.join(arguments)} exited {ran.returncode}: {ran.stderr}"
        return ran.stdout

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Makes these objects so."""
        everything = {"apiVersion": "v1", "kind": "List", "items": documents}
        self.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(everything))

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a List."""
        document: dict[str, Any] = json.loads(self.kubectl("get", "--output=json", *arguments))
        return document

    @contextmanager
    def fresh_namespace(self, **labels: str) -> Iterator[str]:
        """A namespace that is there for as long as the block lasts."""
        name = f"okiba-test-{secrets.token_hex(4)}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")
