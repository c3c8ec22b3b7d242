"""What is to be seen to before anything else, while the command is still being imported."""

from __future__ import annotations

import os
import signal
import sys


def await_supervisor() -> None:
    """Have HUP and USR2, which replace the processes of `run --processes`, wait until whoever obeys them is there; they would end us."""
    is_told = any(word.partition("=")[0] == "--processes" for word in sys.argv)
    if sys.argv[1:2] == ["run"] and (is_told or os.environ.get("TRIOWORKERS_PROCESSES")):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR2))
