"""CPU work in other processes, through trio-parallel: cancelled means killed, and nothing is left in `ps`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import trio
import trio_parallel

from trioworkers.errors import CPUWorkerDied

T = TypeVar("T")
IDLE_TIMEOUT_S = 60.0


class CPUPool:
    """At most `processes` computations at once; each waits for its turn, first come first served."""

    def __init__(self, context: trio_parallel.WorkerContext, processes: int) -> None:
        self._context = context
        self._limiter = trio.CapacityLimiter(processes)

    @property
    def is_busy(self) -> bool:
        """Whether something is computed."""
        return self._limiter.borrowed_tokens > 0

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)` in a process. Raises what it raises, or CPUWorkerDied. Cancelled: the process is killed."""
        while True:
            try:
                result: T = await self._context.run_sync(function, *args, kill_on_cancel=True, limiter=self._limiter)
            except trio_parallel.BrokenWorkerError as error:
                if _died_before_it_began(error):
                    await trio.lowlevel.checkpoint()
                    continue
                raise CPUWorkerDied(f"the process that ran {getattr(function, '__name__', function)!r} died") from error
            return result


@asynccontextmanager
async def open_cpu_pool(processes: int) -> AsyncIterator[CPUPool]:
    """A pool whose processes start when first needed and end with the block, or with us however we end."""
    async with trio_parallel.open_worker_context(
        idle_timeout=IDLE_TIMEOUT_S, init=partial(_init, os.getpid()), grace_period=2.0
    ) as context:
        yield CPUPool(context, processes)


def _died_before_it_began(error: trio_parallel.BrokenWorkerError) -> bool:
    """Whether a signal to our whole process group met a process that was still starting; later it ignores those signals."""
    process = error.args[-1] if error.args else None
    return getattr(process, "exitcode", None) in (-signal.SIGTERM, -signal.SIGINT)


def _init(parent: int) -> None:
    """In the new process: leave signals to the worker, which kills us when it must; and don't outlive it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "SIGTTIN"):
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    # A busy computation never looks at its pipe; when the worker was killed, somebody has to end it.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
