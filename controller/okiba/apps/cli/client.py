"""The CLI's way to a running Okiba: its own HTTP API, and Lambda's through botocore, both signed with the admin key.

Which Okiba: the one of a state folder that was named; else, where `okiba env` of another machine or container has been
evaluated, the one at OKIBA_ENDPOINT; else the one of the default state folder. Beside what `okiba env` prints, nothing
of the user's AWS surroundings has a say here: not AWS_PROFILE, not ~/.aws, not a proxy. botocore takes 0.1 s to import,
so it is imported when the first request is made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlencode

from okiba.apps.cli.options import ENDPOINT, is_elsewhere
from okiba.apps.local.credentials import read_credentials
from okiba.apps.local.state import lock_holder, read_installation
from okiba.core import errors
from okiba.core.errors import CallerError, OkibaError, PlatformError
from okiba.settings import Settings

Query = Mapping[str, str | int]

API: Final = "/okiba/v1"

CONNECT_S: Final = 5
ANSWER_S: Final = 60
INVOKE_S: Final = 960
"""A synchronous call lasts up to 900 s, after up to 10 s of waiting for a slot."""

_BY_CODE: Final[dict[str, type[OkibaError]]] = {
    kind.code: kind
    for kind in (
        errors.InvalidParameter,
        errors.InvalidRequestContent,
        errors.NotFound,
        errors.Conflict,
        errors.PreconditionFailed,
        errors.UnsupportedOperation,
    )
}


@dataclass(frozen=True)
class OkibaClient:
    """One running Okiba, as its admin sees it.

    Args:
        state_dir: Named in messages.
        endpoint: Of the gateway's public port, `http://127.0.0.1:4566`.
        s3_endpoint: Of the object store, where the same keys are valid.
    """

    state_dir: Path
    endpoint: str
    s3_endpoint: str
    access_key: str
    secret_key: str
    region: str = Settings().region

    @classmethod
    def from_state(cls, state_dir: Path) -> OkibaClient:
        """The Okiba that a state folder is of, or that is elsewhere; whether it runs shows with the first request.

        Raises:
            NotFound: The folder has no Okiba.
            CallerError: The folder is corrupt, or of another release; or what `okiba env` printed is not whole.
        """
        if is_elsewhere(os.environ, state_dir):
            return cls.from_variables(state_dir, os.environ)
        installation = read_installation(state_dir)
        credentials = read_credentials(state_dir)
        return cls(
            state_dir,
            f"http://127.0.0.1:{installation.gateway_port}",
            f"http://127.0.0.1:{installation.s3_port}",
            credentials.admin_access_key,
            credentials.admin_secret_key,
            installation.region,
        )

    @classmethod
    def from_variables(cls, state_dir: Path, variables: Mapping[str, str]) -> OkibaClient:
        """The Okiba that these variables name, which are as `okiba env` prints them.

        Raises:
            InvalidParameter: One is missing.
        """
        names = (ENDPOINT, "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
        if missing := [name for name in names if not variables.get(name)]:
            raise errors.InvalidParameter(
                f"{ENDPOINT} is set but {missing[0]} is not; evaluate all that `okiba env` prints"
            )
        return cls(state_dir, *(variables[name].rstrip("/") for name in names))

    # --- Okiba's own API --------------------------------------------------------------------------------------------

    def get_json(self, path: str, query: Query | None = None, wait_s: float = ANSWER_S) -> dict[str, Any]:
        """The answer to a GET of a path such as `/okiba/v1/status`; raises one of `core.errors`."""
        return self._request("GET", path, query or {}, None, wait_s)

    def put_json(self, path: str, body: Mapping[str, object], wait_s: float = ANSWER_S) -> dict[str, Any]:
        """The answer to a PUT of a path; raises one of `core.errors`."""
        return self._request("PUT", path, {}, body, wait_s)

    def act(self, method: str, path: str) -> dict[str, Any]:
        """The answer to a POST or DELETE of a path; raises one of `core.errors`."""
        return self._request(method, path, {}, None, ANSWER_S)

    def function(self, name: str) -> dict[str, Any]:
        """A function's whole record."""
        return self.get_json(function_path(name))

    def require_function(self, name: str) -> None:
        """Returns if there is such a function.

        Raises:
            NotFound: There is none.
        """
        try:
            self.function(name)
        except errors.NotFound as error:
            raise errors.NotFound(f"Function not found: {name}") from error

    def _request(
        self, method: str, path: str, query: Query, body: Mapping[str, object] | None, wait_s: float
    ) -> dict[str, Any]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        from botocore.exceptions import ConnectionError as NoConnection
        from botocore.exceptions import HTTPClientError
        from botocore.httpsession import URLLib3Session

        content = json.dumps(body).encode() if body is not None else b""
        url = f"{self.endpoint}{path}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        request = AWSRequest(method, url, {"Content-Type": "application/json"}, content)
        SigV4Auth(Credentials(self.access_key, self.secret_key), "lambda", self.region).add_auth(request)
        session = URLLib3Session(timeout=(CONNECT_S, wait_s), proxies={})  # type: ignore[arg-type]  # stubs: int
        try:
            response = session.send(request.prepare())
        except (NoConnection, HTTPClientError) as error:
            raise self._unreachable(error) from error
        finally:
            session.close()
        return _answer(response.status_code, response.headers, response.content)

    # --- Lambda's API, and S3's -------------------------------------------------------------------------------------

    def lambda_call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The answer to an operation of Lambda, named as boto3 names it; raises one of `core.errors`."""
        from botocore.exceptions import ClientError, HTTPClientError, ParamValidationError
        from botocore.exceptions import ConnectionError as NoConnection

        try:
            answer: dict[str, Any] = getattr(self.lambda_, operation)(**parameters)
        except ClientError as error:
            raise _translated(error.response) from error
        except ParamValidationError as error:
            raise errors.InvalidParameter(str(error)) from error
        except (NoConnection, HTTPClientError) as error:
            raise self._unreachable(error) from error
        return Told(answer)

    def function_names(self) -> list[str]:
        """The names of all functions, sorted."""
        names: list[str] = []
        page: dict[str, Any] = {}
        while True:
            page = self.lambda_call("list_functions", **({"Marker": page["NextMarker"]} if page else {}))
            names += [function["FunctionName"] for function in page["Functions"]]
            if not page.get("NextMarker"):
                return sorted(names)

    @cached_property
    def lambda_(self) -> Any:
        """A botocore client of Lambda; it never tries again, since a second Invoke would run the function twice."""
        return self._service("lambda", self.endpoint, attempts=1)

    @cached_property
    def s3(self) -> Any:
        """A botocore client of the object store."""
        return self._service("s3", self.s3_endpoint, attempts=3)

    def _service(self, name: str, endpoint: str, attempts: int) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=INVOKE_S if name == "lambda" else ANSWER_S,
            retries={"total_max_attempts": attempts},
            proxies={},
            s3={"addressing_style": "path"},
        )
        return _session().create_client(
            name,
            region_name=self.region,
            endpoint_url=endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=config,
        )

    def _unreachable(self, error: Exception) -> PlatformError:
        if is_elsewhere(os.environ, self.state_dir):
            return PlatformError(f"Okiba does not answer at {self.endpoint}, which {ENDPOINT} names ({error})")
        if lock_holder(self.state_dir) is None:
            return PlatformError(f"Okiba is not running in {self.state_dir}; start it with: okiba up")
        return PlatformError(f"Okiba in {self.state_dir} does not answer at {self.endpoint} ({error})")


@cache
def _session() -> Any:
    """botocore's, which reads services' models once; it looks at no file of the user's."""
    from botocore.session import Session

    return Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )


class Told(dict[str, Any]):
    """What Okiba has answered; asked for what it has not told, it says that this is not Okiba."""

    def __missing__(self, key: str) -> NoReturn:
        """Raises PlatformError: another server answers at Okiba's address, or another release."""
        raise PlatformError(f"what answers there is not this release of Okiba: it tells no {key!r}")


def function_path(name: str) -> str:
    """Where Okiba's own API has a function."""
    return f"{API}/functions/{quote(name, safe='')}"


def _answer(status: int, headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content or b"{}")
    except ValueError as error:
        raise PlatformError(f"expected JSON from Okiba, got {content[:80]!r} (HTTP {status})") from error
    if status < 300 and isinstance(body, dict):
        return Told(body)
    fields = body if isinstance(body, dict) else {}
    message = str(fields.get("message") or fields.get("Message") or f"HTTP {status}")
    raise _error(str(headers.get("x-amzn-ErrorType") or fields.get("Type")), status, message)


def _translated(response: Mapping[str, Any]) -> OkibaError:
    """What a botocore ClientError says, as one of `core.errors`."""
    told = response.get("Error", {})
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    return _error(str(told.get("Code")), status, str(told.get("Message") or told.get("Code")))


def _error(code: str, status: int, message: str) -> OkibaError:
    if kind := _BY_CODE.get(code):
        return kind(message)
    if status == 403:
        return errors.AccessDenied(message, code)
    return CallerError(f"{message} ({code})") if status < 500 else PlatformError(f"{message} ({code})")
