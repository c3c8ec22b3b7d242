"""A virtual clock runs like a real one while something goes on that Trio can't see: computing, a thread, a call over the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio
import trio.testing

from trioworkers.jobs.resources import SharedResources


class _RealTime(trio.abc.Instrument):
    """Has a clock that jumps run like the real one while something goes on that Trio can't see: it would jump to the deadline of that."""

    def __init__(self, clock: trio.testing.MockClock, resources: SharedResources) -> None:
        self._clock = clock
        self._resources = resources
        self._threads = trio.to_thread.current_default_thread_limiter()
        self._jumps_after: float | None = None  # while it does not jump
        self._rate = clock.rate

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Whatever begins or ends does so in a step of a task."""
        del task
        if self._resources.is_busy_outside or self._threads.borrowed_tokens > 0:
            self._hold()
        else:
            self.let_go()

    def _hold(self) -> None:
        if self._jumps_after is None and self._clock.autojump_threshold < math.inf:
            self._jumps_after, self._rate = self._clock.autojump_threshold, self._clock.rate
            self._clock.autojump_threshold, self._clock.rate = math.inf, 1.0

    def let_go(self) -> None:
        """Let it jump again."""
        if self._jumps_after is not None:
            self._clock.autojump_threshold, self._clock.rate = self._jumps_after, self._rate
            self._jumps_after = None


@contextmanager
def real_time_while(resources: SharedResources) -> Iterator[None]:
    """Within the block; without a virtual clock nothing is done."""
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        yield
        return
    instrument = _RealTime(clock, resources)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(instrument)
        instrument.let_go()
