"""CPU work in other processes: cancelled means killed, with all that it has started, and nothing is left in `ps`.

Not over trio-parallel or concurrent.futures: both take a descriptor that children inherit for the life of a process, so that a function which
forks can't be cancelled, and one that closes its descriptors blocks whoever waits; both kill the process alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from trioworkers.errors import CPUWorkerDied
from trioworkers.jobs.compute_child import RETIRED
from trioworkers.jobs.compute_process import ComputeProcess, EndedEarly

T = TypeVar("T")

STARTS = 3
"""A process that ends before it computes is started again so often in all: what stops the machine's services may have met it."""

LEAVING_S = 0.25
"""What processes get to leave by themselves when the pool is closed."""


class CPUPool:
    """At most `processes` computations at once; each waits for its turn, first come first served.

    Processes start when first needed, and are tended in `nursery`, which must live until `aclose` has returned.
    """

    def __init__(self, nursery: trio.Nursery, processes: int) -> None:
        self._nursery = nursery
        self._limiter = trio.CapacityLimiter(processes)
        self._idle: list[ComputeProcess] = []

    @property
    def is_busy(self) -> bool:
        """Whether something is computed."""
        return self._limiter.borrowed_tokens > 0

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)` in a process. Raises what it raises, or CPUWorkerDied. Cancelled: the process is killed."""
        work = pickle.dumps((function, args), pickle.HIGHEST_PROTOCOL)
        async with self._limiter:
            while True:
                process = await self._process()
                reply = await process.ask(work)
                if reply is not None and reply != RETIRED:
                    self._idle.append(process)
                if reply != RETIRED:  # else it had just left, for want of work
                    break
        if reply is None:
            name = getattr(function, "__name__", function)
            raise CPUWorkerDied(f"the process that ran {name!r} {process.status}")
        succeeded, result = pickle.loads(reply)  # noqa: S301 - from a process of ours, as trustworthy as we are
        if not succeeded:
            raise result
        value: T = result
        return value

    async def aclose(self) -> None:
        """End all processes. Nothing computes any more."""
        with trio.CancelScope(shield=True):  # bounded by LEAVING_S: what is left would outlive us
            async with trio.open_nursery() as nursery:
                for process in self._idle:
                    nursery.start_soon(process.retire, LEAVING_S)
        self._idle.clear()

    async def _process(self) -> ComputeProcess:
        while self._idle:
            process = self._idle.pop()
            if not process.ended.is_set():
                return process
        for start in range(1, STARTS + 1):
            try:
                return await ComputeProcess.start(self._nursery)
            except EndedEarly as error:
                if start == STARTS:
                    raise CPUWorkerDied(f"no process for run_cpu comes up: {STARTS} of them {error}") from None
        raise AssertionError("the loop returns or raises")
