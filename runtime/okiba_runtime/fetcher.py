"""Downloads an archive, checks its digest on the way, unpacks it: the whole folder is there then, or nothing is.

It waits, so never the agent does it but a process that has nothing else to do. No proxy is asked and no redirect
followed: the object store is where the address says. A private authority's certificates are found by SSL_CERT_FILE.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import mmap
import os
import re
import shutil
import signal
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import IO, Any, Final
from urllib.parse import urlsplit

from okiba_runtime.archive import BadArchive, entries
from okiba_runtime.parts import LIMITS, MAX_PACKED, Part
from okiba_runtime.unpacking import contents, unpack

_READ_S = 5.0
_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0
_PIECE = 256 * 1024

# Answers of a store that is overloaded, restarting, or behind a proxy whose other side is.
_PASSING = frozenset({408, 429, 500, 502, 503, 504})

# An archive of one small file, and a store's answer that has it.
_REHEARSED: Final = base64.b64decode(
    "UEsDBBQAAAAIAAAAIQDXlYjjLQAAADwAAAAGAAAAYXBwLnB5S0lNU8hIzEvJSS3SSC1LzSvRUUjOzytJrSjRtOJSAIKi1JLSojwFqBwyxQUAUEsBAhQD"
    "FAAAAAgAAAAhANeViOMtAAAAPAAAAAYAAAAAAAAAAAAAAKSBAAAAAGFwcC5weVBLBQYAAAAAAQABADQAAABRAAAAAAA="
)
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nServer: store\r\n\r\n%b" % (len(_REHEARSED), _REHEARSED)

# Of the store's own words the error's name is passed on alone: the rest may quote the address, with its signature.
_code = re.compile(rb"<Code>(\w{1,60})</Code>").search


class Unfetched(RuntimeError):
    """The part is not to be had; the message says what was seen."""


class _Passing(RuntimeError):
    """This attempt failed; another may not."""


class _OutOfTime(BaseException):
    """The time allowed is over; no Exception, so that nothing on the way takes it for one of its own."""


@dataclass(slots=True)
class Fetcher:
    """Fetches one part; `trouble` is why the last attempt failed."""

    part: Part
    trouble: str = field(default="", init=False)

    def fetch(self, limit_ms: int) -> None:
        """The part's folder is there when this returns.

        Raises:
            Unfetched: It could not be had, or not in time.
            BadArchive: What was had is refused.
        """
        signal.signal(signal.SIGALRM, _time_is_over)
        signal.setitimer(signal.ITIMER_REAL, limit_ms / 1000)
        try:
            self._fetch()
        except _OutOfTime:
            last = f"; the last attempt: {self.trouble}" if self.trouble else ""
            raise Unfetched(f"not fetched within {limit_ms} ms{last}") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _fetch(self) -> None:
        root = os.path.dirname(self.part.folder)
        os.makedirs(root, exist_ok=True)
        beside = f"{root}/.{self.part.sha256[:16]}.{os.urandom(4).hex()}"
        try:
            with open(f"{beside}.zip", "x+b") as file:
                self._download(file)
                _unpack(file, beside, self.part)
            _move(beside, self.part.folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{beside}.zip")

    def _download(self, file: IO[bytes]) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._attempt(file):
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LAST_PAUSE_S)
            file.seek(0)
            file.truncate()

    def _attempt(self, file: IO[bytes]) -> bool:
        """Whether the archive is in the file; else another attempt may succeed."""
        parts = urlsplit(self.part.url)
        try:
            connection = _connection(parts.scheme, parts.netloc)
            connection.request("GET", f"{parts.path or '/'}?{parts.query}")
            self._take(connection.getresponse(), file)
            connection.close()
        except ssl.SSLCertVerificationError as error:
            raise Unfetched(f"the store's certificate is not trusted: {error.verify_message}") from error
        except (_Passing, http.client.HTTPException, OSError) as trouble:
            self.trouble = str(trouble) or type(trouble).__name__
            return False
        return True

    def _take(self, response: http.client.HTTPResponse, file: IO[bytes]) -> None:
        if response.status != 200:
            code = _code(response.read(4096))
            said = f"the store answered {response.status} {code[1].decode() if code else response.reason}"
            raise (_Passing if response.status in _PASSING else Unfetched)(said)
        announced = response.length
        self._check_size(announced, whole=True)
        digest, size = hashlib.sha256(), 0
        while piece := response.read(_PIECE):
            size += len(piece)
            self._check_size(size, whole=False)
            digest.update(piece)
            _write(file, piece)
        if announced is not None and size < announced:
            raise _Passing(f"the store's answer ended after {size} of {announced} bytes")
        self._check_size(size, whole=True)
        if digest.hexdigest() != self.part.sha256:
            raise Unfetched(f"it is damaged: its SHA-256 is {digest.hexdigest()}, expected {self.part.sha256}")

    def _check_size(self, size: int | None, *, whole: bool) -> None:
        expected = self.part.size
        if size is None or (size <= (expected or MAX_PACKED) and not (whole and expected and size < expected)):
            return
        raise Unfetched(f"it has {size} bytes, expected {expected or f'at most {MAX_PACKED}'}")


def fetched(part: Part, limit_ms: int) -> dict[str, str]:
    """Fetches the part; returns the error that is told of it, an empty one when its folder is there."""
    try:
        Fetcher(part).fetch(limit_ms)
    except BadArchive as refusal:
        return {"errorType": "Okiba.BadPackage", "errorMessage": f"{part.name}: {refusal}"}
    except (Unfetched, OSError) as trouble:
        return {"errorType": "Okiba.FetchFailed", "errorMessage": f"{part.name}: {trouble}"}
    return {}


def rehearse() -> None:
    """Does once what fetching does, but for the network and the disk: see `rehearsal`."""
    connection, store = http.client.HTTPConnection("store"), socket.socketpair()
    connection.sock = store[0]
    socket.getaddrinfo("127.0.0.1", 80)
    with store[0], store[1], open(os.memfd_create("rehearsal"), "w+b") as file:
        store[1].sendall(_ANSWER)
        connection.request("GET", "/okiba/code/rehearsal.zip?X-Amz-Expires=600")
        part = Part("http://store/", hashlib.sha256(_REHEARSED).hexdigest(), len(_REHEARSED), "", "rehearsal", "code")
        Fetcher(part)._take(connection.getresponse(), file)
        file.flush()
        archive = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for entry in entries(archive, 1):
            b"".join(contents(archive, entry))


def _time_is_over(*_: Any) -> None:
    raise _OutOfTime


def _connection(scheme: str, netloc: str) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(netloc, timeout=_READ_S, context=ssl.create_default_context())
    return http.client.HTTPConnection(netloc, timeout=_READ_S)


def _write(file: IO[bytes], piece: bytes) -> None:
    try:
        file.write(piece)
    except OSError as error:  # a full disk: unlike a broken connection, it will be as full the next time
        raise Unfetched(f"it cannot be written: {error}") from error


def _unpack(file: IO[bytes], folder: str, part: Part) -> None:
    file.flush()
    if not file.tell():
        raise BadArchive("it is empty")
    # Unmapped when its last slice is gone: closing it by hand fails while a traceback still holds one.
    unpack(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), folder, LIMITS[part.kind])


def _move(content: str, folder: str) -> None:
    try:
        os.rename(content, folder)
    except OSError:
        if not os.path.isdir(folder):
            raise
        shutil.rmtree(content, ignore_errors=True)  # another was faster, with the same content
