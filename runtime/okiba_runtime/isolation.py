"""A slot's own namespaces and /tmp, where the system allows them.

With a process namespace the zygote is its first process: when it ends, the kernel ends every process of the slot.

    agent ── nest ── zygote ── worker …        the nest makes the namespaces, forks the zygote and ends at once;
      └───────────────▲                        the agent, which adopts orphans, becomes the zygote's parent
"""

from __future__ import annotations

import contextlib
import os
import sys

from okiba_runtime import system

# Lambda's default ephemeral storage. It lies in memory and takes up what is written, no more.
_TMP_OPTIONS = "size=512m,mode=1777"

_SLOT_NAMESPACES = system.CLONE_NEWNS | system.CLONE_NEWPID | system.CLONE_NEWIPC

NO_OLD_TMP = -1


def leave_namespaces() -> bool:
    """Whether this process (its children, for processes) is in namespaces of its own now.

    Raises:
        OSError: It got halfway: the process has no valid identity any more and must end.
    """
    try:
        system.unshare(_SLOT_NAMESPACES)
    except OSError:
        return _leave_as_user()
    return True


def _leave_as_user() -> bool:
    user, group = os.geteuid(), os.getegid()
    try:
        system.unshare(system.CLONE_NEWUSER | _SLOT_NAMESPACES)
    except OSError:
        return False
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")
    return True


def settle(folders: tuple[str, ...]) -> tuple[list[str], int]:
    """Gives the new namespaces' first process its /tmp and /proc.

    Args:
        folders: What must stay visible even if it lies under the old /tmp.

    Returns:
        What the slot has of its own (`tmp`, `pid`, `ipc`), and a descriptor of the old /tmp for `reveal`.
    """
    own = ["pid", "ipc"]
    old_tmp = NO_OLD_TMP
    with contextlib.suppress(OSError):
        system.mount("none", "/", "none", system.MS_REC | system.MS_PRIVATE)
        old_tmp = system.moved_high(os.open("/tmp", os.O_PATH | os.O_DIRECTORY))  # noqa: S108
        system.mount("tmpfs", "/tmp", "tmpfs", system.MS_NOSUID | system.MS_NODEV, _TMP_OPTIONS)  # noqa: S108
        own.insert(0, "tmp")
        reveal(old_tmp, (sys.prefix, sys.base_prefix, os.path.dirname(__file__), *folders))
    with contextlib.suppress(OSError):  # refused in containers that mask parts of /proc
        system.mount("proc", "/proc", "proc", system.MS_NOSUID | system.MS_NODEV)
    return own, old_tmp if "tmp" in own else NO_OLD_TMP


def reveal(old_tmp: int, folders: tuple[str, ...]) -> None:
    """Folders under the old /tmp are at their paths again: an installation may well lie there."""
    if old_tmp == NO_OLD_TMP:
        return
    for folder in folders:
        path = os.path.normpath(folder)
        if path.startswith("/tmp/") and not os.path.isdir(path):  # noqa: S108
            os.makedirs(path)
            inner = path.removeprefix("/tmp/")  # noqa: S108
            system.mount(f"/proc/self/fd/{old_tmp}/{inner}", path, "none", system.MS_BIND | system.MS_REC)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
