"""botocore's data files for S3, read before the fork: half of the time that a first S3 client takes is reading them.

Each is handed out once, to the first who loads it, and read anew for every other: exactly what botocore itself does,
for it changes what it has loaded. No client, session or credential is made here.
"""

from __future__ import annotations

import os
import sys
from typing import Any

# What `boto3.client("s3")` loads, seen with botocore 1.44.
_FILES = (
    "endpoints",
    "partitions",
    "sdk-default-configuration",
    "s3/2006-03-01/service-2",
    "s3/2006-03-01/endpoint-rule-set-1",
)


def read_ahead() -> None:
    """Reads them, if botocore has been imported; whatever a strange botocore answers, it goes on as it was."""
    loaders = sys.modules.get("botocore.loaders")
    if loaders is None:
        return
    try:
        _read_ahead(loaders.JSONFileLoader, os.path.join(os.path.dirname(loaders.__file__ or ""), "data"))
    except Exception:  # noqa: BLE001 - a botocore of another shape is no reason to start without the rest
        return


def _read_ahead(loader: Any, folder: str) -> None:
    load = loader.load_file
    paths = [os.path.join(folder, name) for name in _FILES]
    ready = {path: load(loader(), path) for path in paths}

    def load_file(self: Any, file_path: str) -> Any:
        """Botocore's own, but for what has been read already."""
        return ready.pop(file_path, None) or load(self, file_path)

    loader.load_file = load_file
