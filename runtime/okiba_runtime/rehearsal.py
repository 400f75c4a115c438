"""What a young process does once before anybody waits for it: each page it touches first is copied then, not later.

A forked process shares its pages with its parent until it writes to them, and Python writes a count into nearly every
object it looks at. So what a call will do is done with a sample: nothing of it can be seen afterwards.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import socket

from okiba_runtime import environment, loader, wire, worker
from okiba_runtime.context import LambdaContext
from okiba_runtime.order import parse_order
from okiba_runtime.pipes import WorkerEnds

_SOURCE = (importlib.machinery.SourceFileLoader, importlib.machinery.SOURCE_SUFFIXES)
_MODULE = b"import os\n\n\ndef handler(event, context):\n    return {'name': os.environ.get('NAME')}\n"
_NOWHERE = "/nonexistent"
_ORDER = json.dumps(
    {
        "epoch": 1,
        "grant": "0" * 64,
        "function": {
            "name": "rehearsal",
            "version": "$LATEST",
            "arn": "arn:aws:lambda:us-east-1:000000000000:function:rehearsal",
            "handler": "app.handler",
            "memory_mb": 128,
            "timeout_ms": 3000,
            "log_group": "/aws/lambda/rehearsal",
            "log_stream": "stream",
        },
        "environment": {"AWS_REGION": "us-east-1"},
        "code": {"path": _NOWHERE},
        "layers": [{"path": _NOWHERE}],
        "packages": [_NOWHERE],
        "init_ms": 1000,
    }
).encode()
_SPECIALIZE = b"POST /okiba/v1/specialize HTTP/1.1\r\nHost: slot\r\nContent-Length: 2"
_INVOKE = (
    b"POST /2015-03-31/functions/function/invocations HTTP/1.1\r\nHost: slot\r\nLambda-Runtime-Aws-Request-Id: id\r\n"
    b"Lambda-Runtime-Deadline-Ms: 1\r\nLambda-Runtime-Invoked-Function-Arn: arn\r\nOkiba-Timeout-Us: 1\r\n"
    b"Content-Length: 38"
)


def handler(event: object, context: LambdaContext) -> object:
    """A handler like many."""
    context.get_remaining_time_in_millis()
    return event


def of_agent() -> None:
    """The agent's part of a first call."""
    wire.body_length(wire.parse_head(_SPECIALIZE)[2], 100)
    parse_order(_ORDER)
    wire.response(200, [("Content-Type", "application/json")], json.dumps({"pid": 1}).encode())


def of_worker(stage: worker.Stage) -> None:
    """The worker's part of a first call, with a handler of our own."""
    order = parse_order(_ORDER)
    environment.of_function(order)
    os.environ.update(os.environ.copy())
    order.import_path()
    _import()
    control, agents = socket.socketpair()
    log, notices = os.open(os.devnull, os.O_WRONLY), os.open(os.devnull, os.O_WRONLY)
    worker.Worker(order, WorkerEnds(-1, control.detach(), log, notices), stage).rehearse(handler, _INVOKE)
    os.close(log)
    os.close(notices)
    agents.close()


def _import() -> None:
    """As a handler's module is imported: found in a folder, compiled, run."""
    finder = importlib.machinery.FileFinder(os.path.dirname(__file__), _SOURCE)
    finder.find_spec("okiba_rehearsal")
    spec = finder.find_spec("notices")
    if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
        importlib.util.module_from_spec(spec)
        code = spec.loader.source_to_code(_MODULE, "rehearsal")
        exec(code, {"__name__": "rehearsal"})  # noqa: S102 (a constant)
    loader.load(f"{__name__}.handler")
