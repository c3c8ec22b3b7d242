"""Stops a handler at each of its awaits in turn: what a stop or a crash may leave half done, some round of these shows."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import trio

from trioworkers.engine.delivery import RUNNING, Delivery
from trioworkers.engine.task_tree import where
from trioworkers.jobs.handler import AnyHandler, Handler
from trioworkers.testing.running import run
from trioworkers.testing.running_app import RunningApp

if TYPE_CHECKING:
    import httpx

    from trioworkers.app import App

MOST_AWAITS = 10_000


async def for_each_interruption(
    app: App,
    scenario: Callable[[RunningApp], Awaitable[object]],
    *,
    handler: AnyHandler | str | None = None,
    how: Literal["stop", "crash"] = "stop",
    http: Callable[[], httpx.AsyncClient] | None = None,
) -> int:
    """Run a scenario many times. Each time one attempt is interrupted: at its first await, then at its second, and so on. The last round has no interruption.

    - `scenario`: an async function of a `RunningApp`. It prepares its own data, sends jobs, drains, and asserts that all is right.
    - `handler`: the handler or class whose attempt is interrupted. Default: that of the first job.
    - `how`: "stop": the job is cancelled and put back, as when a worker stops. "crash": as by `RunningApp.crash_worker`.
    - `http`: a function that makes the client of each round, see `run`.

    Returns at how many awaits it was interrupted. If the scenario raises, a note says at which await. An await that doesn't wait isn't counted.
    """
    for number in range(1, MOST_AWAITS + 1):
        interruption = _Interruption(handler, how, number)
        async with run(app, http=None if http is None else http()) as test:
            with interruption.watching(test):
                try:
                    await scenario(test)
                except BaseException as error:
                    if not isinstance(error, trio.Cancelled):
                        error.add_note(f"the handler was {interruption}")
                    raise
        if not interruption.where:
            return number - 1
    raise AssertionError(f"the handler was interrupted at {MOST_AWAITS} awaits, and there is no end of them")


class _Interruption(trio.abc.Instrument):
    """Interrupts an attempt when its tasks have waited for the `number`th time."""

    def __init__(self, handler: AnyHandler | str | None, how: Literal["stop", "crash"], number: int) -> None:
        self._class = handler.job_class if isinstance(handler, Handler) else handler
        self._how = how
        self._number = number
        self._count = 0
        self._test: RunningApp | None = None
        self._delivery: Delivery | None = None
        self.where = ""

    def __str__(self) -> str:
        if not self.where:
            return "not interrupted"
        return f"{'stopped' if self._how == 'stop' else 'killed'} at its await number {self._number}, {self.where}"

    @contextmanager
    def watching(self, test: RunningApp) -> Iterator[None]:
        """Interrupt within the block."""
        self._test = test
        trio.lowlevel.add_instrument(self)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task waits, or has ended."""
        if self.where or self._test is None or not self._is_of_it(task) or _has_ended(task):
            return
        self._count += 1
        if self._count == self._number:
            self.where = where(task) or "in Trio itself"
            if self._how == "crash":
                self._test._crash()
            elif self._delivery is not None:
                self._delivery.cancel()

    def _is_of_it(self, task: trio.lowlevel.Task) -> bool:
        if self._delivery is None:
            self._delivery = self._find(task)
        delivery = self._delivery
        if delivery is None or delivery.state is not RUNNING or delivery.task is None:
            return False
        above: trio.lowlevel.Task | None = task
        while above is not None and above is not delivery.task:
            above = None if above.parent_nursery is None else above.parent_nursery.parent_task
        return above is not None

    def _find(self, task: trio.lowlevel.Task) -> Delivery | None:
        """The first attempt of such a job; once it has one, there is no other."""
        assert self._test is not None  # noqa: S101 - `after_task_step` has looked
        for each in self._test._served.values():
            for delivery in each.deliveries:
                if delivery.task is task and self._class in (None, delivery.job_class):
                    return delivery
        return None


def _has_ended(task: trio.lowlevel.Task) -> bool:
    return inspect.iscoroutine(task.coro) and inspect.getcoroutinestate(task.coro) == inspect.CORO_CLOSED
