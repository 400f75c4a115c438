"""Modules that are already in memory when a function arrives, and what must be done about them.

The zygote imports much of the standard library ahead of time. On Lambda a function's own `calendar.py` hides the
library's; here it would be hidden by it, so what a function's folders hide is forgotten before the handler loads.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterable

# Used by the worker itself, as by Lambda's own runtime, which is why a function's module of such a name is hidden on
# Lambda too.
_OURS = frozenset(
    "abc builtins codecs collections contextlib ctypes dataclasses encodings enum functools genericpath importlib io "
    "json keyword linecache logging operator os posixpath re reprlib socket stat string sys threading time tokenize "
    "traceback types typing warnings weakref okiba_runtime sre_compile sre_constants sre_parse".split()
)

# PROTOCOL.md's limit for Okiba-Preload.
_MAX_NAMES_BYTES = 12 * 1024


def make_way(folders: Iterable[str]) -> None:
    """What these folders would hide on sys.path is forgotten, so that importing it finds theirs."""
    for folder in folders:
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        # Looked up one by one: going through all of sys.modules would touch, and so copy, pages shared with the zygote.
        for name in {entry.removesuffix(".py") for entry in entries}:
            if name in sys.modules and name not in _OURS and not _is_from(name, folder):
                _forget(name)


def _is_from(name: str, folder: str) -> bool:
    module = sys.modules[name]
    if hasattr(module, "__path__"):
        return f"{folder}/{name}" in module.__path__
    return os.path.dirname(getattr(module, "__file__", None) or "") == folder


def _forget(name: str) -> None:
    for loaded in [other for other in sys.modules if other == name or other.startswith(f"{name}.")]:
        del sys.modules[loaded]


def standard_path() -> list[str]:
    """The standard library's own entries of sys.path, and what PYTHONPATH says when it was read at exec."""
    ours = os.path.dirname(os.path.dirname(__file__))
    prefixes = tuple({sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix})
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [entry for entry in sys.path if entry != ours and (entry.startswith(prefixes) or entry in named)]


def loaded_from(names: Iterable[str], folders: tuple[str, ...]) -> list[str]:
    """Those of the modules that come out of these folders, those that others need first; bounded."""
    chosen, size = [], 0
    for name in names:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and file.startswith(tuple(f"{folder}/" for folder in folders)):
            size += len(name) + 1
            if size > _MAX_NAMES_BYTES:
                break
            chosen.append(name)
    return chosen


def reseed() -> None:
    """Random numbers of this process have nothing to do with those of its siblings."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
