"""What botocore reads and finds out for a first S3 client, before the fork.

Measured with the files alone read ahead, a client took 58 ms; with the rest of this, 28.

It is found out with a client of nobody's, which is thrown away: no session, client or credential is handed on.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

# What `boto3.client("s3")` loads and looks for, seen with botocore 1.44.
_FILES = (
    "endpoints",
    "partitions",
    "sdk-default-configuration",
    "s3/2006-03-01/service-2",
    "s3/2006-03-01/endpoint-rule-set-1",
)
_TYPES = ("service-2", "endpoint-rule-set-1")


def read_ahead() -> None:
    """Reads them, if botocore has been imported; whatever a strange botocore answers, it goes on as it was."""
    session = sys.modules.get("botocore.session")
    if session is None:
        return
    # Whatever a botocore of another shape does: it goes on as it was, and the rest is done.
    with contextlib.suppress(Exception):
        hooks, loaders = sys.modules["botocore.hooks"], sys.modules["botocore.loaders"]
        if hooks.accepts_kwargs.__module__ == __name__:
            return  # done, before this process was forked
        folder = loaders.Loader.BUILTIN_DATA_PATH
        _list_services(loaders.Loader, folder)
        with contextlib.suppress(Exception), _without_files_of_users():
            _inspect_handlers(hooks, lambda: _rehearse(session))
        _read_files(loaders.JSONFileLoader, folder)  # after the rehearsal, which reads them too


@contextlib.contextmanager
def _without_files_of_users() -> Iterator[None]:
    """Nobody's configuration is read, and nobody asked what machine this is."""
    nobodys = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    before = dict(os.environ)
    os.environ.update(nobodys, AWS_EC2_METADATA_DISABLED="true", AWS_DEFAULTS_MODE="legacy")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _read_files(loader: Any, folder: str) -> None:
    load = loader.load_file
    paths = [os.path.join(folder, name) for name in _FILES]
    ready = {path: load(loader(), path) for path in paths}

    def load_file(self: Any, file_path: str) -> Any:
        """Botocore's own, but for what has been read already, once: botocore changes what it has loaded."""
        return ready.pop(file_path, None) or load(self, file_path)

    loader.load_file = load_file


def _list_services(loader: Any, folder: str) -> None:
    """Botocore looks into each service's folder, 900 of them, for each type of file that a client needs."""
    list_all = loader.list_available_services
    plain = loader([folder], include_default_search_paths=False)
    ready = {name: frozenset(list_all(plain, name)) for name in _TYPES}

    def list_available_services(self: Any, type_name: str) -> list[str]:
        """Botocore's own, but that its own folder is not looked into again."""
        if type_name not in ready or folder not in self.search_paths:
            known: list[str] = list_all(self, type_name)
            return known
        others = [path for path in self.search_paths if path != folder]
        rest = loader(others, self.file_loader, include_default_search_paths=False)
        return sorted(ready[type_name].union(list_all(rest, type_name)))

    loader.list_available_services = list_available_services


class _Nothing(io.BytesIO):
    """The body of an answer that has none."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        """As urllib3's responses have it."""
        yield self.read()


def _rehearse(session: Any) -> None:
    """Runs what a client runs, but sends nothing: code is faster the second time, and pages are touched here."""
    answer = sys.modules["botocore.awsrequest"].AWSResponse
    keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nobody"}
    client = session.Session().create_client("s3", "us-east-1", **keys)
    client.meta.events.register("before-send.s3", lambda request, **_: answer(request.url, 200, {}, _Nothing()))
    client.get_object(Bucket="nobodys", Key="nothing")["Body"].read()
    client.put_object(Bucket="nobodys", Key="nothing", Body=b"nothing")


def _inspect_handlers(hooks: Any, rehearse: Callable[[], None]) -> None:
    """Botocore inspects the parameters of each of its 150 event handlers for each session; the answers never change."""
    inspect = hooks.accepts_kwargs
    known: dict[Any, bool] = {}

    def learn(handler: Any) -> bool:
        accepts: bool = inspect(handler)
        function = getattr(handler, "__func__", handler)
        if isinstance(function, types.FunctionType) and function.__closure__ is None:  # not one session's alone
            known[function] = accepts
        return accepts

    def accepts_kwargs(handler: Any) -> bool:
        """Botocore's own, but for handlers that it has inspected already."""
        function = getattr(handler, "__func__", handler)
        accepts = known.get(function) if isinstance(function, types.FunctionType) else None
        answer: bool = inspect(handler) if accepts is None else accepts
        return answer

    hooks.accepts_kwargs = learn
    try:
        rehearse()
    finally:
        hooks.accepts_kwargs = accepts_kwargs
