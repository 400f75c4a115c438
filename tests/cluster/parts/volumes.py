"""Gives every claim of the cluster's default storage class a folder, and takes it away when the claim has gone.

`python -m tests.cluster.parts.volumes` runs until it is ended. Both nodes see the same disk, so a volume can be had on
either: as on a machine room's network storage, not as on a node's own disk.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import threading
from pathlib import Path
from typing import Any, Final

from tests.cluster.layout import RUN
from tests.cluster.parts.api import Api, Refused
from tests.cluster.parts.watching import Watched

CLASS: Final = "standard"
PROVISIONER: Final = "tests.okiba.dev/folder"
FOLDER: Final = RUN / "volumes"

RETRY_S: Final = 3.0
"""What could not be done is tried again after this time, should nothing change before."""

STORAGE_CLASS: Final = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": PROVISIONER,
}


def main() -> None:
    """Follows claims and volumes."""
    api, changed = Api("volumes"), threading.Event()
    claims = Watched(api, "/api/v1/persistentvolumeclaims", changed.set)
    volumes = Watched(api, "/api/v1/persistentvolumes", changed.set)
    while True:
        changed.wait(RETRY_S)
        changed.clear()
        # An API server that is away just now is asked again at the next turn.
        with contextlib.suppress(OSError, http.client.HTTPException, Refused):
            for claim in claims.objects():
                if is_waiting(claim):
                    _provide(api, claim)
            for volume in volumes.objects():
                if is_free_again(volume):
                    _withdraw(api, volume)


def is_waiting(claim: dict[str, Any]) -> bool:
    """Whether the claim has no volume yet and is ours to serve."""
    spec = claim["spec"]
    return bool(spec.get("storageClassName") == CLASS and not spec.get("volumeName"))


def is_free_again(volume: dict[str, Any]) -> bool:
    """Whether the claim that had this volume, one of ours, has gone."""
    ours = volume["spec"].get("storageClassName") == CLASS
    return bool(ours and volume["status"].get("phase") == "Released")


def volume_for(claim: dict[str, Any]) -> dict[str, Any]:
    """A volume as large as the claim asks for, kept for it."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"folder-{metadata['uid']}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": CLASS,
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Retain",  # who made it takes it away: this process
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "hostPath": {"path": str(FOLDER / name)},
        },
    }


def _provide(api: Api, claim: dict[str, Any]) -> None:
    volume = volume_for(claim)
    folder = Path(volume["spec"]["hostPath"]["path"])
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)  # the kubelet gives such a volume to no group, and pods are not root
    api.apply(volume)


def _withdraw(api: Api, volume: dict[str, Any]) -> None:
    api.delete(volume)
    shutil.rmtree(volume["spec"]["hostPath"]["path"], ignore_errors=True)


if __name__ == "__main__":
    main()
