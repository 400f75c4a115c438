"""`python -m okiba.apps.gateway`: the gateway process, configured by OKIBA_* variables (`okiba.settings`)."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

import uvloop

from okiba.apps.gateway.process import serve, settings_from_environment
from okiba.apps.journal import log_to_stderr
from okiba.core.errors import OkibaError
from okiba.settings import Settings


async def _until_signalled(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # What start-up made stays for good: the collector need not look at it in every full pass (5 ms each), and a call
    # makes a few hundred objects that are gone when it ends: 700 of them are no reason to look for cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    await serve(settings, stop)


def main() -> None:
    """Runs until SIGTERM or Ctrl-C."""
    try:
        settings = settings_from_environment()
    except OkibaError as error:
        sys.exit(f"okiba gateway: {error}")
    log_to_stderr(settings.log_level)
    uvloop.run(_until_signalled(settings))


if __name__ == "__main__":
    main()
