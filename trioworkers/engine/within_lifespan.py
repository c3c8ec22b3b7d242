"""Runs a worker within the app's lifespan, which may cancel what is in it: a task that it started fails, say, in a nursery around its `yield`.

A worker that is cancelled in the middle of its work neither fetches nor puts back what it has. So it is shielded, and stopped then as from outside.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Protocol

import trio

from trioworkers.errors import ConfigurationError

logger = logging.getLogger("trioworkers")

ENDED = (
    "the app's lifespan cancelled what ran within it: a task that it started failed, or it cancelled its own nursery"
)


class Stoppable(Protocol):
    """A worker, over one Redis or several."""

    @property
    def stopping(self) -> bool:
        """Whether it was told to."""

    def stop(self) -> None:
        """Fetch no more, and end by the deadline."""

    def blame_jobs(self) -> None:
        """Charge those that run with its end."""


async def run_within(
    worker: Stoppable, run: Callable[[], Awaitable[None]], started: trio.Event, session: trio.CancelScope
) -> None:
    """Run it until it is stopped. Raises what `run` does, and ConfigurationError if it is the lifespan that has ended it.

    Cancelled: it is stopped in good order; before it has started, at once. `session`: the scope around the lifespan: a start
    is given up by it, which may come in the very moment in which the worker has started.
    """
    scope, failed, ended = trio.CancelScope(shield=True), list[Exception](), trio.Event()
    its_own = {*map(repr, _tasks_below(trio.lowlevel.current_task()))}

    async def work() -> None:
        try:
            with scope:
                await run()
        except Exception as error:  # noqa: BLE001 - carried past the nursery, so that it comes out ungrouped
            failed.append(error)
        finally:
            ended.set()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            try:
                await ended.wait()
            except BaseException as error:  # cancelled, nearly always
                if not started.is_set():
                    scope.cancel()
                elif not ended.is_set() and not worker.stopping:
                    if not session.cancel_called:
                        failed.append(_told(worker, error, its_own))
                    worker.stop()
                raise
    except BaseException:
        if not failed:
            raise
    if failed:
        raise failed[-1]


def _told(worker: Stoppable, error: BaseException, its_own: Collection[str]) -> ConfigurationError:
    """Say that it has ended. Jobs are charged, unless what did so is known to be a task of the lifespan: one of them may have started it, or reached the nursery."""
    logger.error("%s; the worker stops", ENDED)
    if getattr(error, "source_task", None) not in its_own:
        worker.blame_jobs()
    return ConfigurationError(ENDED)


def _tasks_below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """It, and those in its nurseries."""
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tasks_below(child)
