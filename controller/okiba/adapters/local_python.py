"""Python interpreters of this machine, by Lambda's runtime names.

A name on PATH proves nothing: pyenv puts a shim there for every version that it ever had, and a shim of a version that
is not selected ends with an error. So every candidate has to run and say its version.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Final

OLDEST: Final = (3, 10)
"""What `okiba_runtime` can run on."""

RUNTIME: Final = re.compile(r"python3\.(\d{1,2})")

ASK: Final = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable, sep='|')"

SUPPORTED: Final = tuple(f"python3.{minor}" for minor in range(OLDEST[1], 16))


def installed_runtimes() -> dict[str, Path]:
    """Every runtime name that functions can use here, with its interpreter."""
    return {name: path for name in SUPPORTED if (path := find_interpreter(name))}


@lru_cache(maxsize=64)
def find_interpreter(runtime: str) -> Path | None:
    """The interpreter for a runtime such as `python3.12`; None when this machine has none that works."""
    match = RUNTIME.fullmatch(runtime)
    if match is None or (3, int(match[1])) < OLDEST:
        return None
    wanted = runtime.removeprefix("python")
    return next((path for candidate in _candidates(wanted) if (path := _proven(candidate, wanted))), None)


def _candidates(version: str) -> list[Path]:
    """Where such an interpreter may be, the most deliberate choice first."""
    found: list[Path] = []
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        found.append(Path(sys._base_executable))  # type: ignore[attr-defined]  # what a venv is of
    for folder in os.get_exec_path():
        if program := shutil.which(f"python{version}", path=folder):
            found.append(Path(program))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True)
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local/share/uv/python"))
    found += sorted(uv.glob(f"cpython-{version}.*/bin/python{version}"), reverse=True)
    return list(dict.fromkeys(found))


def _proven(candidate: Path, version: str) -> Path | None:
    """The real file behind a candidate if it runs and is of this version."""
    try:
        answer = subprocess.run(
            [candidate, "-I", "-S", "-c", ASK], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said, _, executable = answer.stdout.strip().partition("|")
    return Path(executable) if said == version and executable else None
