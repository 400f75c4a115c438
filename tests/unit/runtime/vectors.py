"""The protocol's vectors, which both sides are tested against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parents[2] / "vectors" / "protocol"


def vectors(name: str) -> list[Any]:
    """The vectors of a file as parameters, named as they are."""
    found = json.loads((_FOLDER / f"{name}.json").read_text())["vectors"]
    return [pytest.param(vector, id=vector["name"]) for vector in found]
