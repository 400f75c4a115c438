"""Runs a program that dies with whoever started it: `python -I -S lifeline.py PROGRAM ARGUMENT…`.

Standard input is the lifeline, a pipe of which the starter holds the other end. When that closes (the starter ended,
however), this process kills its whole process group, itself included. To be started as the leader of a new session.
"""

import os
import signal
import subprocess
import sys
import threading


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(os.getpid(), signal.SIGKILL)  # its own: were it no leader, there would be no such group


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))
