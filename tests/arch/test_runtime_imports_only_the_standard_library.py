"""Slots run on a bare interpreter: nothing is installed for them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "runtime" / "okiba_runtime"


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_a_module_of_the_runtime_imports_only_the_standard_library_and_its_own_package(path):
    foreign = _imported(ast.parse(path.read_text())) - sys.stdlib_module_names - {"okiba_runtime"}

    assert foreign == set()
