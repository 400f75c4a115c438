"""What the chart has done last, `python -m okiba.apps.uninstall`: nobody else's things hold anything of Okiba's.

    store's rules        no bucket announces anything to Okiba any more; what others set up there stays
    Function objects     with `--functions NAMESPACE`, before that namespace goes: deleted while the controller is
                         there to let them go, or the namespace would wait for ever
                         with `--let-go NAMESPACE`, after all else has gone: those that stay have no finalizer any
                         more, so that whoever deletes them need not have Okiba for it

Objects, buckets, functions' users and Redis stay as they are: an installation that comes back finds them.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from typing import Any, Final

from okiba.adapters.kube_functions import FINALIZER
from okiba.adapters.s3_admin import S3Admin
from okiba.apps.journal import log_to_stderr
from okiba.core.errors import NotFound, OkibaError
from okiba.settings import Settings

log = logging.getLogger(__name__)

PATIENCE_S: Final = 60.0
GROUP: Final = ("okiba.dev", "v1alpha1")


def silence_buckets(store: S3Admin) -> list[str]:
    """The buckets that no longer announce anything to Okiba.

    Raises:
        StoreUnavailable: The store is away.
    """
    changed = []
    for bucket in store.buckets():
        try:
            if store.announce(bucket, ()):
                changed.append(bucket)
        except NotFound:  # somebody removed it meanwhile
            continue
    return changed


def delete_functions(namespace: str, patience_s: float = PATIENCE_S) -> bool:
    """Deletes every Function object of a namespace; whether they are gone in time."""
    # Takes 0.25 s to import, and most installations keep their functions.
    from kubernetes import client, config

    config.load_incluster_config()  # type: ignore[no-untyped-call]
    objects = client.CustomObjectsApi()
    deadline = time.monotonic() + patience_s
    objects.delete_collection_namespaced_custom_object(*GROUP, namespace, "functions")
    while True:
        left: Any = objects.list_namespaced_custom_object(*GROUP, namespace, "functions", limit=1)
        if not left["items"]:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)


def let_go(namespace: str) -> list[str]:
    """The Function objects of a namespace that were Okiba's to hold, and are not any more."""
    from kubernetes import client, config  # as above

    config.load_incluster_config()  # type: ignore[no-untyped-call]
    objects = client.CustomObjectsApi()
    listed: Any = objects.list_namespaced_custom_object(*GROUP, namespace, "functions")
    held = [item["metadata"] for item in listed["items"] if FINALIZER in item["metadata"].get("finalizers", ())]
    for metadata in held:
        others = [name for name in metadata["finalizers"] if name != FINALIZER]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": others}}
        objects.patch_namespaced_custom_object(
            *GROUP, namespace, "functions", metadata["name"], patch, _content_type="application/merge-patch+json"
        )
    return [metadata["name"] for metadata in held]


def main() -> int:
    """Does it all; the process's exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--functions", metavar="NAMESPACE", default="")
    parser.add_argument("--let-go", metavar="NAMESPACE", default="")
    arguments = parser.parse_args()
    namespace = arguments.functions
    if arguments.let_go:
        log_to_stderr("info")
        log.info("objects let go", extra={"functions": let_go(arguments.let_go)})
        return 0
    settings = Settings.from_environment(os.environ)
    log_to_stderr(settings.log_level)
    if namespace and not delete_functions(namespace):
        log.error("Function objects are still there: their controller did not let them go", extra={"in": namespace})
        return 1
    try:
        log.info("buckets silenced", extra={"buckets": silence_buckets(S3Admin.of(settings))})
    except OkibaError as trouble:
        log.error("buckets go on announcing", extra={"reason": str(trouble)})  # noqa: TRY400 (expected, in words)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
