"""The zygote: forks the slot's one worker, reaps what the slot leaves behind, and says how the worker ended.

It runs no user code: preloaded modules were imported before it was forked, the handler's are imported by the worker.
The worker is forked while the slot is still warm, and waits for its order: so neither the fork, nor the pages that a
young process copies as it touches them, are on a call's way.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from typing import NoReturn

from okiba_runtime import environment, fetcher, isolation, notices, processes, rehearsal, system, worker
from okiba_runtime.fetching import all_fetched
from okiba_runtime.order import Order, parse_order
from okiba_runtime.parts import parts_of
from okiba_runtime.pipes import WorkerEnds

_LENGTH_BYTES = 4


def order_message(body: bytes) -> bytes:
    """How an order travels to the worker."""
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class Zygote:
    """The process between agent and worker."""

    def __init__(self, ends: WorkerEnds, own: list[str], old_tmp: int, preload_path: tuple[str, ...]) -> None:
        self._ends = ends
        self._own = own
        self._old_tmp = old_tmp
        self._preload_path = preload_path
        self._link = socket.socket(fileno=ends.link)
        self._worker = 0
        self._wake, self._wake_end = map(system.moved_high, os.pipe())
        os.set_blocking(self._wake_end, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> NoReturn:
        """Runs until the agent is gone, and takes every process of the slot along."""
        self._say(f"ready {','.join(self._own) or 'none'}")
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._link.fileno() in ready and not self._obey():
                break
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
        # In a process namespace of its own, ending is enough; elsewhere the orphans have become our children.
        while "pid" not in self._own and (pids := processes.descendants(os.getpid())):
            processes.end_all(pids)
            self._reap_all()
        os._exit(0)

    def _say(self, line: str) -> None:
        self._link.sendall(f"{line}\n".encode())

    def _obey(self) -> bool:
        try:
            if not self._link.recv(1):
                return False
        except ConnectionResetError:  # the agent is gone, with something unread
            return False
        self._worker = os.fork()
        if self._worker == 0:
            self._become_worker()
        self._say(f"forked {self._worker}")
        return True

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._worker:
                self._say(f"exited {status} {usage.ru_maxrss}")

    def _reap_all(self) -> None:
        try:
            while os.wait():
                pass
        except ChildProcessError:
            return

    def _become_worker(self) -> NoReturn:
        try:
            self._let_go()
            system.die_with_parent(signal.SIGKILL)
            worker.give_way()
            _offer_to_oom_killer()
            _take_streams(self._ends.log)
            stage = worker.Stage()
            rehearsal.of_worker(stage)
            fetcher.rehearse()
            body, order, fetched = _furnished_order(self._ends)
            isolation.reveal(self._old_tmp, tuple(folder for folder in order.folders if folder not in fetched))
            if order.needs_exec or not {*self._preload_path} <= {*order.import_path()}:
                _start_afresh(body, order, self._ends)
            worker.main(order, self._ends, stage, self._preload_path)
        except BaseException:  # noqa: BLE001 - a fork must never return into its parent's code
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(70)

    def _let_go(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (self._link.detach(), self._wake, self._wake_end):
            os.close(descriptor)


def _furnished_order(ends: WorkerEnds) -> tuple[bytes, Order, set[str]]:
    """The order, once it has come and what it names is there, and the folders that have been fetched for it."""
    while True:
        body = _awaited_order(ends.control)
        order, parts = parse_order(body), parts_of(json.loads(body))
        if not parts:
            return body, order, set()
        error = all_fetched(parts, order.init_ms)
        if not error:
            os.write(ends.notices, notices.fetched(time.monotonic_ns() // 1000))
            return body, order, {part.folder for part in parts}
        os.write(ends.notices, notices.unfetched(json.dumps(error).encode()))


def _awaited_order(control: int) -> bytes:
    """The order, once it comes; the process ends when the agent does instead."""
    length = int.from_bytes(_received(control, _LENGTH_BYTES), "big")
    return _received(control, length)


def _received(control: int, count: int) -> bytes:
    received = b""
    while len(received) < count:
        more = os.read(control, count - len(received))
        if not more:
            os._exit(0)
        received += more
    return received


def _offer_to_oom_killer() -> None:
    # When memory is short the kernel should take a function's process, not its zygote and not the platform's.
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def _take_streams(log: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if null > 2:
        os.close(null)


def _start_afresh(body: bytes, order: Order, ends: WorkerEnds) -> NoReturn:
    """The worker as a new interpreter, which reads what only a new one reads; the descriptors go along."""
    order_file = os.memfd_create("order", 0)
    os.write(order_file, body)
    handed = (order_file, ends.control, ends.log, ends.notices)
    for descriptor in handed:
        os.set_inheritable(descriptor, True)
    program = os.path.join(os.path.dirname(__file__), "__main__.py")
    words = [sys.executable, "-S", "-s", "-X", "utf8", program, "--worker", ",".join(map(str, handed))]
    os.execve(sys.executable, words, environment.of_function(order))


def afresh(descriptors: str) -> NoReturn:
    """What `_start_afresh` starts."""
    order_file, control, log, ends_notices = map(int, descriptors.split(","))
    with open(order_file, "rb") as file:
        file.seek(0)
        body = file.read()
    for descriptor in (control, log, ends_notices):
        os.set_inheritable(descriptor, False)
    worker.give_way()
    worker.main(parse_order(body), WorkerEnds(-1, control, log, ends_notices), worker.Stage())
