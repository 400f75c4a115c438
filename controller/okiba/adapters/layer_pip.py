"""Layers built by pip, each once: beside its place, under a lock, and moved there when it is whole.

pip is told names of packages and nothing else (`core.layer.checked_requirements`), takes wheels only unless the
function allows more, and gets none of the platform's own variables. It dies with the process that wanted the layer.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from okiba.adapters import lifeline
from okiba.core.errors import InvalidParameter, PlatformError
from okiba.core.function import Layer
from okiba.core.layer import checked_requirements, layer_folder, layer_packages

BUILD_S: Final = 600.0
"""How long a build may take; with a slow index and large wheels a minute is usual."""

PROGRESS_S: Final = 0.5
"""Lines come in bursts; whoever watches sees two a second."""

_LINES_KEPT: Final = 400
_ERROR_CHARS: Final = 1_500
_PASSED_ON: Final = re.compile(r"PIP_.*|.*_proxy|.*_PROXY|SSL_CERT_.*|REQUESTS_CA_BUNDLE|PATH|HOME|TMPDIR|LANG|XDG_.*")
_TRANSIENT: Final = re.compile(
    r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|ProtocolError|IncompleteRead|"
    r"name resolution|Connection (?:refused|reset|broken|aborted)|Max retries exceeded|timed out|"
    r"5\d\d Server Error|HTTP error 5\d\d|too many 5\d\d error|"
    r"No space left on device|ECONNRESET|Network is unreachable"
)
_CREDENTIALS: Final = re.compile(r"//[^/\s@]+@")
# Where a requirement was read, and a complaint about packages beside pip that have nothing to do with the layer.
_NOISE: Final = re.compile(r" \(from [^v].*|ERROR: pip's dependency resolver .*")


@dataclass(frozen=True, slots=True)
class LayerBuilder:
    """Builds layers into a state folder.

    Args:
        interpreter: The Python for a runtime's name; None where this machine has none.
        environment: Of this process; pip sees the part of it that is about indexes and networks.
        build_s: Seconds that one build may take.
        cache: Folder that keeps every layer built for this user, by hash; a new state folder gets them from there,
            also without a network. None: none are kept.
    """

    state_dir: Path
    interpreter: Callable[[str], Path | None]
    environment: Mapping[str, str]
    build_s: float = BUILD_S
    cache: Path | None = None

    def is_built(self, layer_hash: str) -> bool:
        """Whether the layer is there, whole."""
        return (self.state_dir / layer_packages(layer_hash)).is_dir()

    def build(
        self, layer: Layer, runtime: str, say: Callable[[str], None], begun: Callable[[], None] = lambda: None
    ) -> bool:
        """Makes the layer be there; False when another process is building it just now.

        Args:
            say: Told of pip's progress, a line at a time, at most two a second.
            begun: Called once this process holds the lock and the layer is not there yet.

        Raises:
            InvalidParameter: It cannot be built, now or later; says why.
            PlatformError: The index, the network or the disk failed; later it may work.
        """
        target = self.state_dir / layer_folder(layer.hash)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{layer.hash}.lock")) as mine:
            if not mine:
                return False
            if not self.is_built(layer.hash):
                begun()
                self._build(layer, runtime, target, say)
        return True

    def _build(self, layer: Layer, runtime: str, target: Path, say: Callable[[str], None]) -> None:
        python = self.interpreter(runtime)
        if python is None:
            raise InvalidParameter(f"Runtime {runtime} has no interpreter on this machine")
        beside = target.with_name(f".{layer.hash}.building")  # what an earlier attempt left is removed
        shutil.rmtree(beside, ignore_errors=True)
        kept = self.cache / layer.hash if self.cache else None
        try:
            if kept is not None and kept.is_dir():
                shutil.copytree(kept, beside, symlinks=True)  # no links: a function may write into its layer
            else:
                self._install(layer, python, beside, say)
            # A rename must not reach the disk before the files do: a layer is there if and only if it is whole.
            os.sync()
            beside.rename(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        if kept is not None and not kept.is_dir():
            _keep(target, kept)

    def _install(self, layer: Layer, python: Path, beside: Path, say: Callable[[str], None]) -> None:
        packages = beside / "python"
        packages.mkdir(parents=True)
        requirements = beside / "requirements.txt"
        requirements.write_text(checked_requirements(layer.requirements))
        if requirements.stat().st_size:
            self._run(_pip(python, packages, requirements, layer.allow_source), layer.allow_source, say)

    def _run(self, argv: Sequence[str], allow_source: bool, say: Callable[[str], None]) -> None:
        environment = {name: value for name, value in self.environment.items() if _PASSED_ON.fullmatch(name)}
        pipe = subprocess.PIPE
        guarded = [sys.executable, "-I", "-S", lifeline.__file__, *argv]
        with subprocess.Popen(
            guarded, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        ) as pip:
            deadline = threading.Timer(self.build_s, _kill, [pip])
            deadline.start()
            try:
                lines = _told(pip, say)
                status = pip.wait()
            finally:
                overdue = not deadline.is_alive()
                deadline.cancel()
                _kill(pip)
        if overdue:
            raise PlatformError(f"pip did not finish within {self.build_s:.0f} s; its last line: {lines[-1:]}")
        if status:
            raise _failure(lines, status, allow_source)


def _keep(layer: Path, kept: Path) -> None:
    """Puts a layer into the cache; a cache that cannot be written is no reason to fail."""
    beside = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(layer, beside, symlinks=True)
        beside.rename(kept)
    except (OSError, shutil.Error):
        shutil.rmtree(beside, ignore_errors=True)


def _pip(python: Path, packages: Path, requirements: Path, allow_source: bool) -> list[str]:
    """The command: this process's pip, working for the function's interpreter."""
    pip = [sys.executable, "-I", "-m", "pip", "--python", str(python), "--no-input", "--no-color"]
    # Only a retry tells of an index that is away; without one pip says no more than "no matching distribution".
    install = [
        "install",
        "--retries=3",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--no-warn-script-location",
    ]
    kinds = [] if allow_source else ["--only-binary=:all:"]
    return [*pip, *install, *kinds, "--target", str(packages), "--requirement", str(requirements)]


def _told(pip: subprocess.Popen[bytes], say: Callable[[str], None]) -> list[str]:
    """The last lines of its output; each is passed on as it comes, unless another one just was."""
    lines: deque[str] = deque(maxlen=_LINES_KEPT)
    said = 0.0
    for raw in pip.stdout or ():
        line = _NOISE.sub("", _CREDENTIALS.sub("//…@", raw.decode(errors="replace"))).strip()
        lines.append(line)
        if line and time.monotonic() - said >= PROGRESS_S:
            said = time.monotonic()
            say(line)
    return list(lines)


def _failure(lines: Sequence[str], status: int, allow_source: bool) -> InvalidParameter | PlatformError:
    """Whose fault it was, in pip's own words."""
    errors = list(dict.fromkeys(line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")))
    said = "; ".join(errors or [line for line in lines if line][-3:])[:_ERROR_CHARS] or f"pip ended with {status}"
    if status < 0 or any(_TRANSIENT.search(line) for line in lines):
        return PlatformError(f"requirements: {said}")
    sources = "" if allow_source else " (only wheels are taken, since building a package would run its code here)"
    return InvalidParameter(f"requirements: {said}{sources if '(from versions: none)' in said else ''}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the build's whole process group, which its first process leads."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether this process holds the file's lock, until the block ends or the process does."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
