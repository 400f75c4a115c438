"""The environment that a function sees: its own variables, the platform's, and those that Lambda's runtime sets."""

from __future__ import annotations

import os
import sys

from okiba_runtime.order import Order


def of_function(order: Order) -> dict[str, str]:
    """Every variable of the worker; nothing of this process's own environment is in it but PATH and SSL_CERT_FILE.

    Source:
        Lambda's environment as recorded; AWS_LAMBDA_RUNTIME_API is absent because nothing listens there.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    variables = {
        "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), *(f"{layer}/bin" for layer in order.layers)]),
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "SHLVL": "0",
        # For interpreters that the handler starts itself: they find what it finds.
        "PYTHONPATH": os.pathsep.join(order.import_path()[1:]),
        **_certificates(),
        **order.environment,
        "_HANDLER": order.handler,
        "LAMBDA_TASK_ROOT": order.code,
        "LAMBDA_RUNTIME_DIR": os.path.dirname(__file__),
        "PWD": order.code,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
        "AWS_LAMBDA_FUNCTION_NAME": order.name,
        "AWS_LAMBDA_FUNCTION_VERSION": order.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(order.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": order.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": order.log_stream,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    }
    if not variables["PYTHONPATH"]:
        del variables["PYTHONPATH"]
    return variables


def _certificates() -> dict[str, str]:
    """Where a private authority's certificates are, under the names that ssl, boto3 and requests look for."""
    file = os.environ.get("SSL_CERT_FILE")
    return dict.fromkeys(("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"), file) if file else {}


def become(variables: dict[str, str]) -> None:
    """This process's environment is exactly `variables`."""
    os.environ.clear()
    os.environ.update(variables)
