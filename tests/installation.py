"""A whole Okiba of a test's own: `okiba up --detach` on free ports and a temporary folder, ended with everything in it.

The real command, the real parts; nothing here reaches into a process but to kill it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
from botocore.config import Config

OKIBA = [sys.executable, "-m", "okiba.apps.cli"]


@dataclass
class GatewayProcess:
    """A gateway beside the supervisor's own."""

    name: str
    address: str
    admin: str
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and returns when it is ready."""
        with self.log.open("ab") as log:
            argv = [sys.executable, "-m", "okiba.apps.gateway"]
            self.process = subprocess.Popen(argv, env=self.environment, stdout=log, stderr=log)
        eventually(lambda: self.ready, 60)

    @property
    def ready(self) -> bool:
        """What its readiness probe says."""
        with contextlib.suppress(OSError), urlopen(f"http://{self.admin}/readyz", timeout=5) as page:
            return page.status == 200
        return False

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, seconds: float = 60) -> int:
        """Asks it to end, as Kubernetes does; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        return self.process.wait(seconds)


class Talks(ABC):
    """What a test does with an Okiba, wherever it runs: as its users do, over HTTP and by the CLI."""

    variables: dict[str, str]

    @abstractmethod
    def okiba(self, *arguments: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Runs the CLI."""

    @cached_property
    def clients(self) -> contextlib.ExitStack:
        """What closes every client that was not closed before; whoever ends the Okiba closes it."""
        return contextlib.ExitStack()

    def client(self, service: str, at: str = "", **config: Any) -> Any:
        """A boto3 client, open for as long as the Okiba is there; who makes many uses `passing_client`."""
        return self.clients.enter_context(self.passing_client(service, at, **config))

    @contextlib.contextmanager
    def passing_client(self, service: str, at: str = "", **config: Any) -> Iterator[Any]:
        """A boto3 client as a user would make it, from the variables of `okiba env`, open while the block lasts.

        Args:
            at: host:port of a certain gateway.
        """
        variables = self.variables
        endpoint = variables["AWS_ENDPOINT_URL_S3"] if service == "s3" else variables["AWS_ENDPOINT_URL"]
        endpoint = f"http://{at}" if at else endpoint
        options = {"retries": {"max_attempts": 0}, "read_timeout": 60, "max_pool_connections": 128, **config}
        client = boto3.client(
            service,
            endpoint_url=endpoint,
            region_name=variables["AWS_DEFAULT_REGION"],
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
            config=Config(**options),
        )
        client.meta.events.register("after-call.lambda.Invoke", _read_nothing)
        with contextlib.closing(client):
            yield client

    def deploy_inline(self, name: str, code: str, runtime: str = "python3.11", **settings: Any) -> None:
        """Creates a function of one module, as boto3 users do, and waits until it is active."""
        concurrency = settings.pop("concurrency", None)
        with self.passing_client("lambda") as lambdas:
            lambdas.create_function(
                FunctionName=name,
                Runtime=runtime,
                Handler="app.handler",
                Role="arn:aws:iam::000000000000:role/any",
                Code={"ZipFile": zipped({"app.py": code})},
                **settings,
            )
            if concurrency is not None:
                lambdas.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=concurrency)
            eventually(lambda: lambdas.get_function(FunctionName=name)["Configuration"]["State"] == "Active", 120)

    def deploy(self, folder: Path, *arguments: str) -> None:
        """`okiba deploy`."""
        self.okiba("deploy", str(folder), *arguments, timeout=300)

    def invoke(self, name: str, event: Any = None, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """The result of a synchronous call and its response."""
        with self.passing_client("lambda") as lambdas:
            response = lambdas.invoke(FunctionName=name, Payload=json.dumps(event), **settings)
            body = response["Payload"].read()
        return json.loads(body) if body else None, response


def _read_nothing(http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
    """Reads an empty result, as no caller does: unread, it keeps its connection out of the pool that is closed."""
    if http_response.status_code in (202, 204):
        parsed["Payload"].read()


@dataclass
class Installation(Talks):
    """One running Okiba.

    Args:
        environment: What the CLI is run with.
        gateways: Those beside the supervisor's own.
    """

    state: Path
    environment: dict[str, str]
    gateways: list[GatewayProcess] = field(default_factory=list)

    def okiba(self, *arguments: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Runs the CLI."""
        ran = subprocess.run(
            [*OKIBA, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and ran.returncode != 0:
            raise AssertionError(f"okiba {' '.join(arguments)} exited {ran.returncode}:\n{ran.stdout}\n{ran.stderr}")
        return ran

    @cached_property
    def variables(self) -> dict[str, str]:
        """What `okiba env` exports."""
        return exports_in(self.okiba("env").stdout)

    @property
    def document(self) -> dict[str, Any]:
        """okiba.json."""
        return json.loads((self.state / "okiba.json").read_text())

    @property
    def gateway(self) -> str:
        """The public port as host:port."""
        return f"127.0.0.1:{self.document['gateway_port']}"

    @property
    def admin(self) -> str:
        """The admin port as host:port."""
        return f"127.0.0.1:{self.document['admin_port']}"

    # --- processes ----------------------------------------------------------------------------------------------------

    @property
    def supervisor(self) -> int:
        """The supervisor's process id."""
        return int((self.state / "lock").read_text().strip())

    def pid(self, component: str) -> int:
        """The process id of `gateway`, `controller`, `jobs`, `valkey` or `minio`."""
        mark = {"valkey": "valkey", "minio": "minio"}.get(component, f"okiba.apps.{component}")
        for child in children(self.supervisor):
            arguments = command_line(child)
            if (mark.startswith("okiba.") and mark in arguments) or (arguments and mark in Path(arguments[0]).name):
                return child
        raise LookupError(f"no {component} runs under {self.supervisor}")

    def slot_pids(self) -> list[int]:
        """The agents of all slots."""
        found = []
        for record in (self.state / "slots").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                pid = int(json.loads(record.read_text())["pid"])
                if command_line(pid):
                    found.append(pid)
        return found

    def kill(self, component: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to a component; its process id."""
        pid = self.pid(component)
        os.kill(pid, number)
        return pid

    @property
    def webhook_token(self) -> str:
        """What a store proves itself with."""
        return str(json.loads((self.state / "credentials.json").read_text())["webhook_token"])

    @contextlib.contextmanager
    def stopped(self, component: str) -> Iterator[None]:
        """The component does nothing for as long as the block lasts."""
        pid = self.kill(component, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all labels but those given."""
        with urlopen(f"http://{self.admin}/metrics", timeout=10) as page:
            return metric_in(page.read().decode(), name, **labels)

    def add_gateway(self, name: str) -> GatewayProcess:
        """One more gateway beside the supervisor's, ready."""
        with socket.socket() as one, socket.socket() as two:
            for probe in (one, two):
                probe.bind(("127.0.0.1", 0))
            address, admin = (f"127.0.0.1:{probe.getsockname()[1]}" for probe in (one, two))
        environment = dict(
            entry.split("=", 1)
            for entry in Path(f"/proc/{self.pid('gateway')}/environ").read_text().split("\0")
            if "=" in entry
        )
        own = {"GATEWAY_ADDRESS": address, "ADMIN_ADDRESS": admin, "GATEWAY_NAME": name, "GATEWAY_PEER_ADDRESS": admin}
        environment |= {f"OKIBA_{key}": value for key, value in own.items()}
        gateway = GatewayProcess(name, address, admin, environment, self.state / "logs" / f"{name}.log")
        gateway.start()
        self.gateways.append(gateway)
        return gateway


@contextlib.contextmanager
def installation(*options: str, settings: dict[str, str] | None = None, gateways: int = 1) -> Iterator[Installation]:
    """An Okiba that is ready, with these options of `okiba up` and OKIBA_* settings; all of it is gone afterwards.

    Args:
        gateways: How many there are; the supervisor's own, which it starts again when it dies, is one of them.
    """
    state = Path(tempfile.mkdtemp(prefix="okiba-test-", dir="/tmp"))
    environment = {**os.environ, "OKIBA_STATE_DIR": str(state), **(settings or {})}
    admin_port = "0"
    if gateways > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            admin_port = str(probe.getsockname()[1])
        environment |= {"OKIBA_GATEWAY_NAME": "first", "OKIBA_GATEWAY_PEER_ADDRESS": f"127.0.0.1:{admin_port}"}
    here = Installation(state, environment)
    try:
        ports = ("--port", "0", "--s3-port", "0", "--admin-port", admin_port)
        here.okiba("up", "--detach", *ports, *options, timeout=900)
        for number in range(1, gateways):
            here.add_gateway(f"gateway-{number}")
        yield here
    except BaseException:
        for log in sorted((state / "logs").glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
        raise
    finally:
        here.clients.close()
        for gateway in here.gateways:
            if gateway.process is not None and gateway.process.poll() is None:
                gateway.process.kill()
                gateway.process.wait()
        here.okiba("down", check=False)
        shutil.rmtree(state, ignore_errors=True)


def zipped(files: dict[str, str | bytes]) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def exports_in(text: str) -> dict[str, str]:
    """The variables that a shell would have from lines as `okiba env` prints them."""
    exports = (re.fullmatch(r"export (\w+)='?([^']*)'?", line.strip()) for line in text.splitlines())
    return dict(export.groups() for export in exports if export)


def metric_in(page: str, name: str, **labels: str) -> float:
    """The sum of a metric over all labels but those given."""
    samples = re.findall(rf"^{name}(?:\{{([^}}]*)\}})? ([0-9.e+-]+)$", page, re.MULTILINE)
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(value) for told, value in samples if all(want in told for want in wanted))


def children(pid: int) -> list[int]:
    """A process's children."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def command_line(pid: int) -> list[str]:
    """A process's arguments; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def eventually(check: Callable[[], Any], seconds: float = 30, every: float = 0.05) -> Any:
    """The first true value of `check`, or a failure that shows the last one."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        try:
            last = check()
        except Exception as error:  # what is asked may not be there yet
            last = repr(error)  # the error itself would keep every frame that it passed, and sockets in them
        else:
            if last:
                return last
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s; last seen: {last!r}")


def tail_of(response: dict[str, Any]) -> str:
    """The decoded log tail of an Invoke response."""
    return base64.b64decode(response["LogResult"]).decode()
