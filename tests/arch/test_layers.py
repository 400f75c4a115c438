"""The shape of the code, held by tests: who may import whom, and how long things may grow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("controller/okiba", "runtime/okiba_runtime")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "build" not in path.parts
]
LONGEST_MODULE = 600
LONGEST_FUNCTION = 60


def test_imports_point_only_downwards():
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("folder", ["core", "wire.py"])
def test_what_decides_imports_the_standard_library_only(folder):
    place = ROOT / "controller/okiba" / folder
    paths = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert paths
    for path in paths:
        for name in imported(path):
            top = name.partition(".")[0]
            assert top in sys.stdlib_module_names or top == "okiba", f"{path.name} imports {name}"


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_readable(path):
    text = path.read_text()
    assert text.count("\n") <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"
