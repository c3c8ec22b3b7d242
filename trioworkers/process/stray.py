"""A forked child that comes back into our event loop ends there: it would serve its parent's jobs over its parent's sockets."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

import trio

STATUS = 70
"""EX_SOFTWARE."""


class _Stop(trio.abc.Instrument):
    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - Trio's signature
        end()


def strand() -> None:
    """In a forked child: have it end when the code that forked gives way to another task, or would run the next job."""
    try:
        trio.lowlevel.add_instrument(_Stop())
    except RuntimeError:  # it was forked by another thread: there is no loop for it to come back to
        return
    runner = sys.modules.get("trioworkers.engine.runner")
    if runner is not None:  # a lane takes the next job without giving way
        runner.Runner.run = lambda *_: end()


def end() -> NoReturn:
    """End this process, without what its parent wants done at its own end."""
    with suppress(OSError):
        os.write(
            2,
            b"trioworkers: a forked child returned from a job into its parent's event loop; ended (use os._exit in it)\n",
        )
    os._exit(STATUS)
