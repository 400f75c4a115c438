"""Keeps Okiba's processes running on one machine: starts them in order, restarts what dies, ends them in order.

    stores (Valkey, MinIO)  →  bootstrap  →  gateway, controller, jobs      the way down is the way up, reversed

Until everything has answered once, a component that dies ends the whole start with its last words; from then on it is
started again, for ever, after a pause that grows. Nothing outlives the supervisor: its children die with it by the
kernel's hand (PR_SET_PDEATHSIG), slots by their lifeline, a pipe of which only the supervisor holds the writing end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from okiba.apps.local.components import Component, Site
from okiba.apps.local.processes import Command, Process, keep_small, last_lines
from okiba.apps.local.slots.records import end_all
from okiba.core.backoff import Backoff
from okiba.core.errors import PlatformError

log = logging.getLogger(__name__)

START_S: Final = 60.0
"""A component that has not answered by then will not."""

STOP_S: Final = 10.0
"""What running invocations get to finish, and stores to close their files."""

FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 10.0
"""Pauses before restarts double from the first to the last, and begin anew once a component has lived `STEADY_S`."""
STEADY_S: Final = 30.0

PROBE_S: Final = 0.05
LOG_CHECK_S: Final = 60.0


class Supervisor:
    """One run of Okiba.

    Args:
        environment: The user's own, which every Okiba process gets under its settings.
        lifeline: The writing end of the slots' pipe; closed as soon as the controller has stopped.
        say: Takes lines of progress for the user.
    """

    def __init__(self, site: Site, environment: Mapping[str, str], lifeline: int, say: Callable[[str], None]) -> None:
        self._site = site
        self._environment = environment
        self._lifeline = lifeline
        self._say = say
        self._logs = site.state_dir / "logs"
        self._stages: list[list[Component]] = []
        self._running: dict[str, Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._ready = False

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Starts everything, calls `on_ready`, and keeps it running until cancelled; then ends it all.

        Raises:
            PlatformError: A component did not start; everything that had started is ended again.
        """
        try:
            await self._start()
            self._ready = True
            on_ready()
            while True:
                await asyncio.sleep(LOG_CHECK_S)
                for component in self._running:
                    keep_small(self._log(component))
        finally:
            await self._stop()

    # --- up -----------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        killed = end_all(self._site.state_dir)
        if killed:
            log.warning("slots of an earlier run were still there and were killed", extra={"count": killed})
        await self._start_stage(self._site.stores())
        await self._run_once(self._site.bootstrap(self._environment))
        await self._start_stage(self._site.platform(self._environment))

    async def _start_stage(self, components: Sequence[Component]) -> None:
        self._say(f"Starting {', '.join(component.name for component in components)}")
        self._stages.append(list(components))
        for component in components:
            self._keepers[component.name] = asyncio.create_task(self._keep(component))
        for component in components:
            await self._until_ready(component)

    async def _until_ready(self, component: Component) -> None:
        deadline = time.monotonic() + START_S
        while not await component.answers():
            for keeper in self._keepers.values():
                if keeper.done():
                    keeper.result()
            if time.monotonic() > deadline:
                raise PlatformError(self._obituary(component.name, f"did not answer within {START_S:g} s"))
            await asyncio.sleep(PROBE_S)

    async def _run_once(self, command: Command) -> None:
        process = self._running[command.name] = Process(command, self._log(command.name))
        try:
            how = await asyncio.wait_for(process.ended(), START_S)
        except TimeoutError as error:
            raise PlatformError(self._obituary(command.name, f"did not end within {START_S:g} s")) from error
        del self._running[command.name]
        if how != "exited with code 0":
            raise PlatformError(self._obituary(command.name, how))

    # --- running ------------------------------------------------------------------------------------------------------

    async def _keep(self, component: Component) -> None:
        """Runs the component, and runs it again when it has died."""
        backoff = Backoff(FIRST_PAUSE_S, LAST_PAUSE_S)
        while True:
            began = time.monotonic()
            how = await self._life(component.command)
            if not self._ready:
                raise PlatformError(self._obituary(component.name, how))
            if time.monotonic() - began > STEADY_S:
                backoff.succeeded()
            log.error("a component died and is started again", extra={"component": component.name, "how": how})
            await asyncio.sleep(backoff.failed())

    async def _life(self, command: Command) -> str:
        """Runs it once, from its start to its end; says how that was."""
        try:
            process = self._running[command.name] = Process(command, self._log(command.name))
        except (OSError, subprocess.SubprocessError) as error:
            return f"could not be started ({error})"
        return await process.ended()

    # --- down ---------------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """Ends everything in order; a second request to stop ends it at once."""
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        try:
            for stage in reversed(self._stages):
                names = [component.name for component in stage if component.name in self._running]
                await asyncio.gather(*(self._running[name].stop(STOP_S) for name in names))
                self._cut_lifeline()
        finally:
            for process in self._running.values():
                process.kill()
            self._cut_lifeline()

    def _cut_lifeline(self) -> None:
        if self._lifeline < 0:
            return
        os.close(self._lifeline)
        self._lifeline = -1
        end_all(self._site.state_dir)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _obituary(self, name: str, how: str) -> str:
        path = self._log(name)
        return f"{name} {how}. The end of {path}:\n{last_lines(path)}"


def supervise(
    site: Site,
    environment: Mapping[str, str],
    lifeline: int,
    say: Callable[[str], None],
    on_ready: Callable[[], None],
) -> None:
    """Runs Okiba until SIGINT or SIGTERM asks for its end.

    Raises:
        PlatformError: It did not start.
    """

    async def main() -> None:
        run = asyncio.ensure_future(Supervisor(site, environment, lifeline, say).run(on_ready))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, run.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await run

    asyncio.run(main())
