"""Images without a registry: a folder packed as an OCI archive that containerd imports.

Nothing but tar, hashes and three JSON documents (https://github.com/opencontainers/image-spec). Layers stay
uncompressed: they go from one disk to the same disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
NAME: Final = "io.containerd.image.name"
REFERENCE: Final = "org.opencontainers.image.ref.name"
"""The annotations that have an image's whole name: containerd's own, and the specification's."""


def pack(image: str, root: Path, config: Mapping[str, Any], archive: Path) -> None:
    """An image of one layer, which is the folder `root`, written to `archive`.

    The same folder gives the same image, byte by byte: times are zero and names are sorted.

    Args:
        config: `Entrypoint`, `Env` and such, as the image's own configuration has them.
    """
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(root, ".", filter=_timeless)
    digest = file_digest(layer)
    documents = _Documents()
    image_config = {
        "architecture": ARCHITECTURE[platform.machine()],
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": documents.add(image_config, CONFIG_TYPE),
        "layers": [{"mediaType": LAYER_TYPE, "digest": digest, "size": layer.stat().st_size}],
    }
    described = documents.add(manifest, MANIFEST_TYPE)
    fresh = archive.with_suffix(".fresh")
    with tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add_bytes(tar, "index.json", _json(_index(image, described)))
        for name, content in documents.blobs.items():
            _add_bytes(tar, _blob(name), content)
        tar.add(layer, _blob(digest))
    layer.unlink()
    fresh.replace(archive)


def contents(archive: Path) -> dict[str, str]:
    """Image name -> digest, for each image in the archive."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile("index.json")
        assert member, f"{archive} is no OCI archive: it has no index.json"
        index = json.load(member)
    return {_name(manifest["annotations"]): manifest["digest"] for manifest in index["manifests"]}


def file_digest(path: Path) -> str:
    """As images spell it."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _name(annotations: Mapping[str, str]) -> str:
    return annotations.get(NAME) or annotations[REFERENCE]


class _Documents:
    """JSON documents that refer to each other by digest."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def add(self, document: Mapping[str, Any], media_type: str) -> dict[str, Any]:
        content = _json(document)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _index(image: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    named = {**manifest, "annotations": {NAME: image}}
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [named]}


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _timeless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    member.uname = member.gname = ""
    return member
