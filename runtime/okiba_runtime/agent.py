"""The agent: owns a slot's socket, its output, its deadlines and its processes; always there to tell what happened.

One thread, one selector, nothing that blocks. It never runs a function's code, and sleeps unless something happens.
"""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable

from okiba_runtime import birth, listening, processes, rehearsal, system, zygote
from okiba_runtime import slot as slots
from okiba_runtime.birth import Birth
from okiba_runtime.calls import Calls
from okiba_runtime.echo import EchoingRing
from okiba_runtime.endings import Ending
from okiba_runtime.fetching import HANGING_US, Error, failed
from okiba_runtime.isolation import Means
from okiba_runtime.leaving import Holder, Leaving
from okiba_runtime.memory import CgroupMemory, Memory, TreeMemory
from okiba_runtime.options import Options
from okiba_runtime.order import Order
from okiba_runtime.peers import Peers
from okiba_runtime.preloading import Preloading, Result, Wish
from okiba_runtime.ring import Ring
from okiba_runtime.slot import Slot
from okiba_runtime.telemetry import Telemetry
from okiba_runtime.watch import Watch

_RING_BYTES = 4 * 1024 * 1024

# Killed processes are gone within milliseconds, unless the kernel is busy with them (freeing 10 GB, a dead disk). The
# gateway waits a second for the report, so it is given even while the last of them is still dying.
_DYING_US = 500_000
_DYING_LOOK_US = 5_000

# What is not gone by then hangs in the kernel with a SIGKILL pending, which nobody can hurry.
_REMAINS_US = 5_000_000

# How long the ending is told.
_EPITAPH_US = 60_000_000

# The same when the slot was asked to leave: the gateway has a beat waiting, and asks for the rest of the log.
_FAREWELL_US = 250_000


class Agent:
    """One slot's agent."""

    def __init__(self, options: Options, means: Means, foreign: list[int]) -> None:
        self._options = options
        self.runtime_dir = options.runtime_dir
        self._ring = EchoingRing(_RING_BYTES) if options.echo else Ring(_RING_BYTES)
        self.slot = Slot()
        self._memory: Memory = CgroupMemory(options.cgroup) if options.cgroup else TreeMemory()
        system.adopt_orphans()
        lifeline = [options.lifeline] if options.lifeline >= 0 else []
        born = birth.zygote_of(options, means, [*foreign, *lifeline])
        self._zygote_pid = born.pid
        self._ends = born.ends
        self._memory.adopt(born.pid)
        born.ends.link.sendall(b"g")  # only now: the worker is to be born into the zygote's cgroup

        self._selector = selectors.DefaultSelector()
        facts = {"Okiba-Isolation": ",".join(born.own) or "none"}
        if options.preload_dropped:
            facts["Okiba-Preload-Dropped"] = options.preload_dropped[:500]
        self.watch = Watch(self._selector, self._ends, self.slot, self._ring)
        self.telemetry = Telemetry(self.slot, self._ring, facts)
        self._preloading = Preloading(self._selector, options, self._adopt)
        self._on_fetched: Callable[[Error], None] | None = None
        self._peers = Peers(self._selector, Calls(self).on_request)
        self._holder: Holder | None = None
        self._heard = b""
        self._worker_pid: int | None = None  # 0 when it has died
        self._on_forked: Callable[[int], None] | None = None
        self._dying: Ending | None = None
        self._report_until_us = 0
        self._epitaph_us: int | None = None
        self._must_end = False
        self._asked_to_leave = 0
        self._leaving: Leaving | None = None
        self._remains_until_us: int | None = None
        self._on_ended: list[Callable[[], None]] = []
        self._watch_descriptors()

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self, say_ready: Callable[[], None]) -> None:
        """Serves until the slot has been shut down, its lifeline is cut, or its end has been told long enough."""
        with listening.listener(self._options.listen) as listener:
            self._peers.listen(listener)
            say_ready()
            rehearsal.of_agent()
            while not self._is_over():
                try:
                    self._turn()
                except Exception:  # noqa: BLE001 - the process's one loop: report, go on
                    traceback.print_exc()
            for tell in self._on_ended:
                tell()
        self._peers.close()

    def _is_over(self) -> bool:
        if self._epitaph_us is None or self._remains_until_us is not None:
            return False
        return self._must_end or clock_us() >= self._epitaph_us

    def _turn(self) -> None:
        looks = self.watch.looks
        for key, events in self._selector.select(self._patience_s()):
            key.data(events)
        now_us = clock_us()
        if self.watch.next_us is not None and now_us >= self.watch.next_us:
            self.watch.look()
        self._preloading.expire(now_us)
        if self._on_fetched and self.slot.state != slots.FETCHING:
            self._tell_fetched(self.slot.fetch_error)
        if self._asked_to_leave:
            self._leave(now_us)
        if self._remains_until_us is not None:
            self._bury(now_us)
        elif ending := self._due_ending(now_us, looked=self.watch.looks > looks):
            self.kill(ending)
        self.telemetry.answer(now_us)

    def _patience_s(self) -> float | None:
        times = [self.watch.next_us, self.telemetry.next_us(), self._epitaph_us, self._preloading.until_us]
        if self._leaving and not self.is_ending:
            times.append(self._leaving.next_us)
        if self._remains_until_us is not None:
            times.append(clock_us() + _DYING_LOOK_US)
        elif self.slot.running:
            times.append(self.slot.running.deadline_us)
        nearest = min((time_us for time_us in times if time_us is not None), default=None)
        return None if nearest is None else max(nearest - clock_us(), 0) / 1e6

    def _watch_descriptors(self) -> None:
        wake, wake_end = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._asked_to_end(1))
        signal.signal(signal.SIGINT, lambda *_: self._asked_to_end(2))
        self._selector.register(wake, selectors.EVENT_READ, lambda _events: self._reap(wake))
        self._selector.register(self._ends.link, selectors.EVENT_READ, lambda _events: self._hear())
        lifeline = self._options.lifeline
        if lifeline >= 0:
            self._selector.register(lifeline, selectors.EVENT_READ, lambda _events: self._lifeline_moved())

    def _lifeline_moved(self) -> None:
        # Nothing is ever written into it: readable means that the other end is closed.
        self._selector.unregister(self._options.lifeline)
        self._must_end = True

    def _asked_to_end(self, urgency: int) -> None:
        self._asked_to_leave += urgency

    def _leave(self, now_us: int) -> None:
        """No invocation is taken any more; the one that runs may finish. Urged, the slot ends at once."""
        if self._leaving is None:
            self.watch.look()
            self._leaving = Leaving(self.slot, self._ends.control, now_us)
            self._must_end |= self.slot.state not in (slots.IDLE, slots.BUSY)
        self._must_end |= self._asked_to_leave > 1 or self._leaving.overdue(now_us)
        if not self.is_ending:
            self._leaving.go_on(self._holder, now_us)

    # --- what calls ask for -----------------------------------------------------------------------------------------

    def promise(self, order: Order, body: bytes, then: Callable[[Error], None]) -> None:
        """The slot becomes this function's if what the order names can be had; `then` gets the error, empty if so."""
        self._preloading.cancel("the slot was specialised")
        self._memory.limit(order.memory_mb)
        self.slot.promise(order, clock_us(), HANGING_US)
        self._on_fetched = then
        self._send_order(body)

    def _tell_fetched(self, error: Error) -> None:
        tell, self._on_fetched = self._on_fetched, None
        if tell:
            tell(error)

    def _send_order(self, body: bytes) -> None:
        self._ends.control.settimeout(1)  # the worker is waiting for exactly this
        with contextlib.suppress(OSError):  # it has just been killed; that is noticed and told in its own way
            self._ends.control.sendall(zygote.order_message(body))
        self._ends.control.setblocking(False)

    def preload(self, wish: Wish, tell: Callable[[Result | Error], None]) -> bool:
        """Carries out the wish and tells what became of it; False while another one is being carried out."""
        if self._preloading.busy_with_another(wish):
            return False
        self._preloading.ask(wish, functools.partial(self._preloaded, tell))
        return True

    def _preloaded(self, tell: Callable[[Result | Error], None], result: Result | Error) -> None:
        self.telemetry.facts.pop("Okiba-Preload-Dropped", None)
        if isinstance(result, Result) and result.dropped:
            self.telemetry.facts["Okiba-Preload-Dropped"] = result.dropped[:500]
        tell(result)

    def _adopt(self, born: Birth) -> None:
        """This zygote takes the place of the one there was, whose worker was nobody's."""
        self._selector.unregister(self._ends.link)
        self.watch.end()
        self._ends.close()
        processes.end_all([self._zygote_pid, *processes.descendants(self._zygote_pid)])
        self._zygote_pid, self._ends, self._worker_pid, self._heard = born.pid, born.ends, None, b""
        self.watch = Watch(self._selector, self._ends, self.slot, self._ring)
        self._selector.register(self._ends.link, selectors.EVENT_READ, lambda _events: self._hear())
        try:
            self._memory.adopt(born.pid)
            born.ends.link.sendall(b"g")
        except OSError:  # it was killed just behind its last word, and may have been reaped as nobody of ours
            self.kill(self.slot.gone(-signal.SIGKILL, for_memory=False))

    def specialize(self, order: Order, body: bytes, on_forked: Callable[[int], None]) -> None:
        """The slot becomes this function's; `on_forked` gets the worker's pid, 0 if there will be none."""
        self._preloading.cancel("the slot was specialised")
        self._memory.limit(order.memory_mb)
        self.slot.specialize(order, clock_us())
        self._send_order(body)
        self.tell_worker(on_forked)
        self.watch.look()

    def tell_worker(self, on_forked: Callable[[int], None]) -> None:
        """Tells the worker's pid, as soon as there is one; 0 if there will be none."""
        self._on_forked = on_forked
        if self._worker_pid is not None:
            self._tell_forked(self._worker_pid)

    def connect(self, connection: socket.socket) -> None:
        """The worker serves this connection from now on, and no other."""
        former, self._holder = self._holder, Holder(connection, clock_us())
        if former:
            _shut(former.connection)
        connection.setblocking(True)
        try:
            socket.send_fds(self._ends.control, [b"c"], [connection.fileno()])
        except OSError:  # the worker has just died, or hundreds of connections wait for a busy one
            _shut(connection)
            self._holder = None

    def shut_down(self, then: Callable[[], None]) -> None:
        """Ends every process of the slot and this agent; calls `then` in between."""
        self._on_ended.append(then)
        self._must_end = True

    # --- deaths -----------------------------------------------------------------------------------------------------

    def _due_ending(self, now_us: int, *, looked: bool) -> Ending | None:
        if self.slot.state == slots.EXITED:
            return None
        if self._must_end:
            return Ending("shutdown", self.slot.request_id or None)
        if self.slot.overdue(now_us):
            self.watch.look()  # the end may have been told within the last 20 ms
            return self._silenced(self.slot.overdue(now_us))
        if looked and self.slot.running:
            return self.slot.out_of_memory() if self._memory.exceeded(self._zygote_pid) else None
        return None

    def _silenced(self, ending: Ending | None) -> Ending | None:
        """The same; from now on no answer of a slot that ends so reaches anybody.

        One that did, between the last look and the kill, would have the slot handed on to a call that dies of the kill.
        """
        if ending and self._holder:
            _shut(self._holder.connection)
            self._holder = None
        return ending

    @property
    def is_ending(self) -> bool:
        """Whether the slot will end without anything more being asked of it."""
        return self._must_end or self._remains_until_us is not None or self.slot.state == slots.EXITED

    def kill(self, ending: Ending) -> None:
        """Ends the slot's processes; the report follows when they are gone."""
        self._preloading.cancel("the slot ended")
        self._dying = ending
        self._report_until_us = clock_us() + _DYING_US
        self._remains_until_us = clock_us() + _REMAINS_US
        processes.end_all([self._zygote_pid, *processes.descendants(os.getpid())])

    def _reap(self, wake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
                if pid == self._zygote_pid and self._remains_until_us is None and self._epitaph_us is None:
                    # It ends with us only; the kernel or the handler has killed it, and with it the worker.
                    self.kill(self.slot.gone(-signal.SIGKILL, for_memory=self._memory.exceeded(self._zygote_pid)))

    def _hear(self) -> None:
        try:
            piece = self._ends.link.recv(4096)
        except OSError:
            piece = b""
        if not piece:
            self._selector.unregister(self._ends.link)
            return
        *lines, self._heard = (self._heard + piece).split(b"\n")
        for line in lines:
            self._obey(line.decode().split(" "))

    def _obey(self, words: list[str]) -> None:
        if words[0] == "forked":
            # Its number in our own process namespace is another than the zygote's.
            self._tell_forked(next(iter(processes.children(self._zygote_pid)), int(words[1])))
        elif words[0] == "exited":
            self.slot.peak_kb = max(self.slot.peak_kb, int(words[2]))
            self.watch.look()
            if self._remains_until_us is None:
                self.kill(self._own_end(os.waitstatus_to_exitcode(int(words[1]))))

    def _own_end(self, code: int) -> Ending:
        if self._leaving and code >= 0 and not self.slot.running:
            return Ending("shutdown", None)
        return self.slot.gone(code, for_memory=self._memory.exceeded(self._zygote_pid))

    def _tell_forked(self, pid: int) -> None:
        self._worker_pid = pid
        tell, self._on_forked = self._on_forked, None
        if tell:
            tell(pid)

    def _bury(self, now_us: int) -> None:
        """Reports the ending once every process is gone, or some have been dying for too long."""
        remaining = processes.descendants(os.getpid())
        processes.end_all(remaining)
        if self._dying and (not remaining or now_us >= self._report_until_us):
            self._report(self._dying, now_us)
            self._dying = None
        if not remaining or (self._remains_until_us or 0) <= now_us:
            self._remains_until_us = None

    def _report(self, ending: Ending, now_us: int) -> None:
        self.watch.end()
        if self._holder:
            _shut(self._holder.connection)
        self.slot.peak_kb = max(self.slot.peak_kb, self._memory.peak_kb)
        lines = self.slot.end(ending, now_us, time.time(), open_line=self._ring.line_is_open)
        self._ring.append(lines, int(time.time() * 1000))
        self._epitaph_us = now_us + (_FAREWELL_US if self._leaving else _EPITAPH_US)
        self._tell_fetched(failed("the worker ended while it fetched"))
        self._tell_forked(0)


def clock_us() -> int:
    """The monotonic clock that all processes of a machine share."""
    return time.monotonic_ns() // 1000


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
