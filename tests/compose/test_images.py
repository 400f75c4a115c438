"""Images are what their sources make them, and nothing else."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests import images

pytestmark = [
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(bool(images.why_not()), reason=images.why_not() or "images can be built"),
]


def manifest(image):
    """The digest of an image's manifest, which names every layer by its own."""
    with tarfile.open(image.archive) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        return json.load(index)["manifests"][0]["digest"]


def test_a_slots_image_built_again_is_the_same_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base, first = images.base(), images.slot()
    elsewhere = tmp_path / "images"
    elsewhere.mkdir()
    shutil.copy(base.archive, elsewhere)
    monkeypatch.setenv("OKIBA_CACHE_DIR", str(tmp_path))
    second = images.slot()
    assert second.archive != first.archive
    assert manifest(second) == manifest(first)
