"""A slot's own namespaces and /tmp, where the system allows them.

The agent makes the process namespace (as an ordinary user, within a user namespace of its own), the zygote is its
first process and makes the rest. When the zygote ends, the kernel ends every process of the slot.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys

from okiba_runtime import system

# Lambda's default ephemeral storage. It lies in memory and takes up what is written, no more.
TMP_MB = 512
_TMP_OPTIONS = f"size={TMP_MB}m,mode=1777"

NO_OLD_TMP = -1


class Means(enum.IntEnum):
    """How this process can get namespaces; the values are the probe's exit statuses."""

    NONE = 0
    PRIVILEGE = 1
    USER_NAMESPACE = 2


def means() -> Means:
    """What the system allows, found out by a child that tries: getting halfway costs a process its identity."""
    probe = os.fork()
    if probe == 0:
        status = Means.NONE
        with contextlib.suppress(OSError):
            status = _tried()
        os._exit(status)
    return Means(os.waitstatus_to_exitcode(os.waitpid(probe, 0)[1]))


def _tried() -> Means:
    try:
        system.unshare(system.CLONE_NEWPID | system.CLONE_NEWNS | system.CLONE_NEWIPC)
    except OSError:
        leave(Means.USER_NAMESPACE)
        system.unshare(system.CLONE_NEWNS | system.CLONE_NEWIPC)
        return Means.USER_NAMESPACE
    return Means.PRIVILEGE


def leave(how: Means) -> None:
    """The next child of this process is the first of a new process namespace."""
    if how is Means.PRIVILEGE:
        system.unshare(system.CLONE_NEWPID)
        return
    user, group = os.geteuid(), os.getegid()
    system.unshare(system.CLONE_NEWUSER | system.CLONE_NEWPID)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")


def settle(folders: tuple[str, ...]) -> tuple[list[str], int]:
    """Gives a new process namespace's first process its own /tmp, /proc and System V objects.

    Args:
        folders: What must stay visible even if it lies under the old /tmp.

    Returns:
        What the slot has of its own (`tmp`, `pid`, `ipc`), and a descriptor of the old /tmp for `reveal`.
    """
    system.unshare(system.CLONE_NEWNS | system.CLONE_NEWIPC)
    own = ["pid", "ipc"]
    old_tmp = NO_OLD_TMP
    ours = (sys.prefix, sys.base_prefix, os.path.dirname(sys.executable), os.path.dirname(__file__), *folders)
    real = [os.path.realpath(folder) for folder in ours]
    with contextlib.suppress(OSError):
        system.mount("none", "/", "none", system.MS_REC | system.MS_PRIVATE)
        old_tmp = system.moved_high(os.open("/tmp", os.O_PATH | os.O_DIRECTORY))  # noqa: S108
        system.mount("tmpfs", "/tmp", "tmpfs", system.MS_NOSUID | system.MS_NODEV, _TMP_OPTIONS)  # noqa: S108
        own.insert(0, "tmp")
    for folder in (*real, *ours):  # in this order, so that a link finds what it points to
        with contextlib.suppress(OSError):
            reveal(old_tmp if "tmp" in own else NO_OLD_TMP, (folder,))
    with contextlib.suppress(OSError):  # refused in containers that mask parts of /proc
        system.mount("proc", "/proc", "proc", system.MS_NOSUID | system.MS_NODEV)
    return own, old_tmp if "tmp" in own else NO_OLD_TMP


def reveal(old_tmp: int, folders: tuple[str, ...]) -> None:
    """Folders under the old /tmp are at their paths again: an installation may well lie there."""
    if old_tmp == NO_OLD_TMP:
        return
    for folder in map(os.path.normpath, folders):
        if not folder.startswith("/tmp/"):  # noqa: S108
            continue
        outside = f"/proc/self/fd/{old_tmp}/{folder.removeprefix('/tmp/')}"  # noqa: S108
        os.makedirs(folder, exist_ok=True)
        if not os.path.samefile(outside, folder):
            system.mount(outside, folder, "none", system.MS_BIND | system.MS_REC)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
