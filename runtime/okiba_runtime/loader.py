"""From a handler string to a callable, with AWS's errors for every way that this can fail.

Source:
    awslambdaric's bootstrap.py, `_get_handler`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from okiba_runtime.faults import Fault

Handler = Callable[[Any, Any], Any]


def load(handler: str) -> Handler:
    """The handler that the string names, its module imported.

    Raises:
        Fault: The string, the module or the name in it is wrong.
        Exception: Whatever the module raised while it was imported.
    """
    module_name, dot, name = handler.rpartition(".")
    if not dot:
        raise Fault(
            "Runtime.MalformedHandlerName",
            f"Bad handler '{handler}': not enough values to unpack (expected 2, got 1)",
        )
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault("Runtime.BuiltInModuleConflict", f"Cannot use built-in module {module_name} as a handler module")
    module = _imported(module_name)
    try:
        found: Handler = getattr(module, name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{module_name}'") from None
    return found


def _imported(module_name: str) -> object:
    try:
        return importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = f"Unable to import module '{module_name}': {error}"
        raise Fault("Runtime.ImportModuleError", message) from error
    except SyntaxError as error:
        trace = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        message = f"Syntax error in module '{module_name}': {error}"
        raise Fault("Runtime.UserCodeSyntaxError", message, (trace,)) from error
