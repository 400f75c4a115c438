"""The cluster's own two images, and bringing any image into the nodes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from okiba.apps.local.tools import Say
from tests import images as product_images
from tests.cluster.layout import CACHE, IMAGES, NODES, Node
from tests.cluster.making.archive import contents, pack
from tests.cluster.making.programs import COREDNS

PAUSE: Final = "localhost/okiba-pause:1"
DNS: Final = "localhost/okiba-coredns:1.12.4"
CTR: Final = ("ctr", "--namespace", "k8s.io")


def image_archive(image: str) -> Path:
    """Where the archive of this image is kept."""
    return IMAGES / f"{image.rpartition('/')[2].replace(':', '-')}.tar"


def ensure_images() -> None:
    """Makes the cluster's own images, should they be missing."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    if not image_archive(PAUSE).exists():
        _make_pause()
    if not image_archive(DNS).exists():
        _make_dns()


def load(archives: Iterable[Path], say: Say, nodes: Iterable[Node] = NODES) -> None:
    """Brings every image of these archives into each node; one that is there already is left alone."""
    wanted = {archive: contents(archive) for archive in archives}
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: _load_into(node, wanted, say), nodes))


def _load_into(node: Node, wanted: Mapping[Path, Mapping[str, str]], say: Say) -> None:
    present = _present(node)
    for archive, images in wanted.items():
        if any(present.get(image) != digest for image, digest in images.items()):
            say(f"Importing {', '.join(images)} into {node.name}")
            _ctr(node, "images", "import", str(archive))


def product() -> list[Path]:
    """The archives of the product's images, built if what they are made of has changed."""
    return [image().archive for image in (product_images.control_plane, product_images.slot, product_images.minio)]


def _present(node: Node) -> dict[str, str]:
    """Image name -> digest, of the node's images."""
    lines = [line.split() for line in _ctr(node, "images", "list").splitlines()[1:]]
    return {line[0]: line[2] for line in lines}


def _ctr(node: Node, *arguments: str) -> str:
    command = [CTR[0], "--address", str(node.containerd_socket), *CTR[1:], *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def _make_pause() -> None:
    root = _empty_folder("pause")
    source = Path(__file__).parent / "pause.c"
    subprocess.run(["gcc", "-Os", "-static", "-s", "-o", root / "pause", source], check=True, capture_output=True)
    pack(PAUSE, root, {"Entrypoint": ["/pause"], "User": "65535:65535"}, image_archive(PAUSE))
    shutil.rmtree(root)


def _make_dns() -> None:
    root = _empty_folder("coredns")
    shutil.copy(COREDNS.path, root / "coredns")
    pack(DNS, root, {"Entrypoint": ["/coredns"]}, image_archive(DNS))
    shutil.rmtree(root)


def _empty_folder(name: str) -> Path:
    folder = CACHE / "roots" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
