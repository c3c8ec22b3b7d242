"""Where the tasks of one queue's jobs run: a nursery, and another one when that is broken.

A handler can reach the nursery that its task is in. It may cancel it, or break it by leaving one of its own open, which Trio notices
when the task exits. Neither touches the jobs in it, as each runs in a shielded scope; but nothing new can be started there. So those that follow get
another nursery, and the broken one is left to those that are still in it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from trioworkers.engine.containment import passes_by
from trioworkers.failures import leaves, summary

logger = logging.getLogger("trioworkers")


class JobNursery:
    """One queue's. `run` keeps it open until `close`, and then waits for what runs in it."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._nursery: trio.Nursery | None = None
        self._waiting: list[tuple[Callable[[], Awaitable[object]], str]] = []
        self._broken = trio.Event()
        self._closed = trio.Event()

    def start_soon(self, function: Callable[[], Awaitable[object]], *, name: str) -> None:
        """As a Trio nursery's; in a moment, if there is none that is whole."""
        try:
            if self._nursery is not None:
                self._nursery.start_soon(function, name=name)  # into one that is cancelled, too: jobs are shielded
                return
        except RuntimeError:  # it is closed, and the next one isn't open yet
            pass
        self._waiting.append((function, name))

    def close(self) -> None:
        """Nothing is started any more."""
        self._closed.set()
        self._broken.set()

    async def run(
        self,
        mind: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See the class. `mind`: what it waits in, so that somebody hears of it when it is cancelled from further out than a job's own nursery.

        Raises what comes from outside (see `engine/containment.py`), and nothing else.
        """
        async with trio.open_nursery() as nurseries:
            while not self._closed.is_set():
                self._broken = trio.Event()
                await nurseries.start(self._keep_one)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await (self._broken.wait() if mind is None else mind(self._broken.wait))

    async def _keep_one(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                waiting, self._waiting = self._waiting, []
                for function, name in waiting:
                    self._nursery.start_soon(function, name=name)
                task_status.started()
                await self._until_closed_or_broken(self._nursery.cancel_scope)
        except* Exception as group:  # noqa: BLE001 - each job's own failure was its own; this is what its task left behind
            self._tell_of(group)
        except* BaseException as group:  # a SystemExit, say, of a task that a handler started here
            if any(passes_by(leaf) for leaf in leaves(group)):
                raise
            self._tell_of(group)

    def _tell_of(self, left: BaseException) -> None:
        logger.error("a task of queue %s ended as none should: %s: %s", self._queue, *summary(next(leaves(left))))

    async def _until_closed_or_broken(self, scope: trio.CancelScope) -> None:
        try:
            await self._closed.wait()
        except trio.Cancelled as error:
            if scope.cancel_called:
                text = "the nursery of queue %s was cancelled by one of its own jobs, or broke; its jobs go on, others get a new one: %s"
                logger.error(text, self._queue, error)
                self._broken.set()
            raise
