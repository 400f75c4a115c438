"""The state folder: where it is, what is in it, and who holds it.

    okiba.json    {"format": 1, "gateway_port", "admin_port", "s3_port", "sockets",
                  "region", "account_id"}
    lock          held (flock) by the supervisor for as long as it lives; its content is that process's id

Everything else in the folder belongs to the process that writes it (DESIGN.md has the list). Whoever changes what the
folder means raises `FORMAT`: a release that does not know a folder's format refuses it and leaves it as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from okiba.core.errors import Conflict, InvalidRequestContent, NotFound, OkibaError, Unsupported
from okiba.settings import Settings

FORMAT: Final = 1

FOLDERS: Final = ("valkey", "minio", "queue", "code", "layers", "packages", "logs", "slots")

LONGEST_SOCKET_FOLDER: Final = 60
"""Bytes; a unix socket's whole path must stay under 108, and a slot's name takes up to 30."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What okiba.json says.

    Args:
        sockets: A short folder, only its owner's, that holds every unix socket; made anew when it is gone.
        region: Of its last start, as is the account; what a folder of an earlier release does not say is the default.
    """

    gateway_port: int
    admin_port: int
    s3_port: int
    sockets: Path
    region: str = Settings().region
    account_id: str = Settings().account_id


def default_state_dir(environment: Mapping[str, str]) -> Path:
    """OKIBA_STATE_DIR, else `okiba` in the user's state folder (XDG)."""
    if named := environment.get("OKIBA_STATE_DIR"):
        return Path(named).expanduser().absolute()
    base = environment.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "okiba"


def read_installation(state_dir: Path) -> Installation:
    """The installation in this folder.

    Raises:
        NotFound: There is none.
        Unsupported: It has a format that this release does not know.
        InvalidRequestContent: okiba.json is not what it must be.
    """
    path = state_dir / "okiba.json"
    document = read_document(path)
    if (version := document.get("format")) != FORMAT:
        raise Unsupported(f"{path} has format {version!r}; this release of Okiba knows format {FORMAT} only")
    try:
        gateway, admin, s3 = (_port(document[name]) for name in ("gateway_port", "admin_port", "s3_port"))
        home = {name: _text(document[name]) for name in ("region", "account_id") if name in document}
        return Installation(gateway, admin, s3, Path(str(document["sockets"])), **home)
    except (KeyError, ValueError) as error:
        raise InvalidRequestContent(f"{path} is corrupt: {error!r} is missing or wrong") from error


def known_installation(state_dir: Path) -> Installation | None:
    """The installation in this folder, None if there is none yet; raises as `read_installation`."""
    try:
        return read_installation(state_dir)
    except NotFound:
        return None


def write_installation(state_dir: Path, installation: Installation) -> None:
    """Stores it, whole or not at all."""
    document = {"format": FORMAT, **asdict(installation), "sockets": str(installation.sockets)}
    write_document(state_dir / "okiba.json", document, mode=0o644)


def prepare_folders(state_dir: Path) -> None:
    """The state folder and all its parts exist.

    Raises:
        Conflict: Something else is in the way, or this user may not write here.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (state_dir / "okiba.json").exists():
            _refuse_strange_content(state_dir)
        for name in FOLDERS:
            (state_dir / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Conflict(f"{state_dir} cannot be used as a state folder: {error.strerror} ({error.filename})") from error


def ensure_sockets_folder(sockets: Path | None, environment: Mapping[str, str]) -> Path:
    """A short folder with mode 0700 for sockets: the one named, or a new one where that cannot be."""
    if sockets is not None and _is_mine_alone(sockets):
        return sockets
    base = environment.get("XDG_RUNTIME_DIR", "")
    usable = base and len(base) < LONGEST_SOCKET_FOLDER - 16 and os.access(base, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="okiba-", dir=base if usable else "/tmp"))  # noqa: S108 (mode 0700, random)


def remove_sockets_folder(state_dir: Path) -> None:
    """Nothing listens any more: the sockets go, and their folder; the next start makes another."""
    with contextlib.suppress(OkibaError):
        sockets = read_installation(state_dir).sockets
        if _is_mine_alone(sockets):
            shutil.rmtree(sockets, ignore_errors=True)


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        NotFound: No such file.
        InvalidRequestContent: Not a JSON object.
    """
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no Okiba in {path.parent} (no {path.name}); start one with `okiba up`") from error
    except OSError as error:
        raise InvalidRequestContent(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequestContent(f"{path} is corrupt: {error}") from error
    if not isinstance(document, dict):
        raise InvalidRequestContent(f"{path} is corrupt: expected a JSON object, got {type(document).__name__}")
    return document


def write_document(path: Path, document: Mapping[str, object], *, mode: int = 0o600) -> None:
    """Replaces the file at once: a reader sees the old content or the new, also after a power cut."""
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(document, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class FolderLock:
    """The right to run Okiba on a state folder; the kernel takes it back when its holder dies, however that dies."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "lock"
        self._descriptor = -1

    def __enter__(self) -> FolderLock:
        """Takes the lock.

        Raises:
            Conflict: Another process has it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            holder = f" (process {pid})" if (pid := lock_holder(self._path.parent)) else ""
            raise Conflict(f"Okiba already runs on {self._path.parent}{holder}; stop it with `okiba down`") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def lock_holder(state_dir: Path) -> int | None:
    """The process id of the supervisor that runs on this folder; None when none does."""
    path = state_dir / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(path.read_text().strip() or 0) or None
    finally:
        os.close(descriptor)
    return None


def _port(value: object) -> int:
    if not isinstance(value, int) or not 0 < value < 65_536:
        raise ValueError(f"port {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"text {value!r}")
    return value


def _refuse_strange_content(state_dir: Path) -> None:
    """A folder that has files but no okiba.json is somebody else's: nothing of ours belongs between them."""
    strangers = sorted(entry.name for entry in state_dir.iterdir() if entry.name not in {*FOLDERS, "lock"})
    strangers = [name for name in strangers if name not in {"credentials.json", "credentials.new", "okiba.new"}]
    if strangers:
        raise Conflict(f"{state_dir} is not a state folder of Okiba: it has no okiba.json, but {strangers[0]}")


def _is_mine_alone(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and status.st_mode & 0o170777 == 0o040700
