"""What is imported before the first fork, so that no slot has to: the library's costly parts, a layer's modules."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterable, Iterator

from okiba_runtime import botocore_files, shadows

# What handlers and SDKs of object stores import most, among it all that boto3 needs of the standard library.
# Measured on Python 3.11: 0.1 s once, instead of the same for each function that uses them.
_LIBRARY = (
    "argparse asyncio base64 bisect calendar cgi collections.abc concurrent.futures.thread configparser contextlib "
    "copy csv dataclasses datetime decimal difflib email.mime.text email.parser encodings.idna enum fnmatch functools "
    "getpass gzip hashlib heapq hmac html http.client http.cookies importlib.metadata importlib.resources inspect io "
    "ipaddress itertools json locale logging.handlers math mimetypes numbers operator pathlib pickle platform pprint "
    "queue quopri random re secrets select shlex shutil signal socket ssl statistics string struct subprocess "
    "tempfile textwrap threading time traceback typing unicodedata urllib.parse urllib.request uuid warnings weakref "
    "xml.etree.ElementTree zipfile zlib zoneinfo"
).split()


def preload(names: Iterable[str], folders: Iterable[str]) -> str:
    """Imports all that, and freezes it for forking.

    Returns:
        Why processes must not be forked from this one (a module started a thread or opened something), or nothing.
    """
    with _frozen():
        _be_nobody()
        _import_library()
        return _import_layer(tuple(names), tuple(folders))


def preload_more(names: Iterable[str], folders: Iterable[str]) -> str:
    """As `preload`, in a process forked from one that has preloaded already; these folders come first.

    Returns:
        As `preload`.
    """
    with _frozen():
        return _import_layer(tuple(names), tuple(folders))


@contextlib.contextmanager
def _frozen() -> Iterator[None]:
    """What is imported meanwhile is frozen for forking."""
    gc.disable()
    yield
    # Not collected first: the holes it leaves would be filled by the children, who would copy every page they are in.
    gc.freeze()
    gc.enable()


def _be_nobody() -> None:
    """Modules that look at the environment while they are imported find none of this process's own."""
    path = os.environ.get("PATH", os.defpath)
    certificates = os.environ.get("SSL_CERT_FILE")
    os.environ.clear()
    if certificates:  # of a private authority: the object store's, which fetchers and functions meet
        os.environ["SSL_CERT_FILE"] = certificates
    # Numeric libraries start a thread for each processor when they are loaded, unless they are told to use one.
    os.environ.update(PATH=path, LANG="en_US.UTF-8", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


def _import_library() -> None:
    import _sitebuiltins
    import builtins

    for name in _LIBRARY:
        _import(name)
    # Handlers call exit(); the module that would define it is not run (-S).
    for word in ("exit", "quit"):
        setattr(builtins, word, _sitebuiltins.Quitter(word, "Ctrl-D (i.e. EOF)"))


def _import_layer(names: tuple[str, ...], folders: tuple[str, ...]) -> str:
    before = _descriptors()
    shadows.make_way(folders)
    sys.path[:0] = folders
    for name in names:
        _import(name)
        if _threads() > 1:
            return f"{_threads()} threads after importing {name}"
    new = sorted(_descriptors() - before)
    if not new:
        botocore_files.read_ahead()
    return f"descriptors {new} opened by {', '.join(names[:10])}" if new else ""


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - it fails, or does not, where its function imports it; even SystemExit
        return


def _threads() -> int:
    # One entry for each thread, and two as in every folder.
    return os.stat("/proc/self/task").st_nlink - 2


def _descriptors() -> set[str]:
    folder = os.open("/proc/self/fd", os.O_RDONLY)
    try:
        return set(os.listdir(folder)) - {str(folder)}
    finally:
        os.close(folder)
