"""Many slots out of one process: what is expensive (starting an interpreter, importing) happens once, forking is cheap.

    supervisor ⇄ nursery    one JSON line each way for a slot, over the descriptor given by --nursery
        {"listen": "unix:/path", "private_tmp": true, "cgroup": "/sys/fs/cgroup/…"}
        {"listen": "unix:/path", "pid": 1234}           the agent listens
        {"listen": "unix:/path", "error": "…"}          it could not start
        {"ended": 1234}                                 an agent is gone

A nursery holds no secret and runs no function. When its socket is closed it ends; its slots go on, for as long as
the lifeline that they inherited from it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from okiba_runtime import isolation
from okiba_runtime.agent import Agent
from okiba_runtime.options import Options


class Nursery:
    """The process that slots are forked from."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._means = isolation.means()
        self._socket = socket.socket(fileno=options.nursery)
        os.set_inheritable(options.nursery, False)
        self._wake, self._wake_end = os.pipe()
        self._received = b""

    def run(self) -> None:
        """Makes slots until nobody can ask for them any more."""
        os.set_blocking(self._wake_end, False)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._say({"ready": os.getpid()})
        while True:
            ready, _, _ = select.select([self._options.nursery, self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._options.nursery in ready and not self._obey():
                return

    def _say(self, fields: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(json.dumps(fields).encode() + b"\n")

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
                self._say({"ended": pid})

    def _obey(self) -> bool:
        try:
            piece = self._socket.recv(65536)
        except ConnectionResetError:
            return False
        *lines, self._received = (self._received + piece).split(b"\n")
        for line in lines:
            self._fulfil(json.loads(line))
        return bool(piece)

    def _fulfil(self, wish: dict[str, Any]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"listen": wish["listen"], "error": f"cannot fork: {error}"})
            return
        if pid == 0:
            self._be_slot(wish)

    def _be_slot(self, wish: dict[str, Any]) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            os.close(self._wake)
            os.close(self._wake_end)
            os.setsid()
            code = self._run_agent(wish)
        except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _run_agent(self, wish: dict[str, Any]) -> int:
        listen = str(wish["listen"])
        options = dataclasses.replace(
            self._options,
            listen=listen,
            private_tmp=bool(wish.get("private_tmp")),
            cgroup=str(wish.get("cgroup") or ""),
            nursery=-1,
        )

        def say_ready() -> None:
            self._say({"listen": listen, "pid": os.getpid()})
            self._socket.close()

        try:
            Agent(options, self._means, [self._socket.fileno()]).run(say_ready)
        except Exception as error:  # noqa: BLE001 - told to who asked
            self._say({"listen": listen, "error": f"{type(error).__name__}: {error}"})
            return 1
        return 0
