"""The nursery tree of one worker: upkeep ⊃ a nursery of jobs for each queue ⊃ that queue's intake.

Stopping is the shape of the tree; how long each of its steps may take is in `engine/shutdown.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from trioworkers.engine.delivery import RUNNING, SETTLING, Delivery, State
from trioworkers.engine.queues import Queues
from trioworkers.engine.runner import Runner
from trioworkers.engine.shutdown import Shutdown
from trioworkers.engine.upkeep import Upkeep
from trioworkers.engine.within_limits import WithinLimits
from trioworkers.errors import Superseded
from trioworkers.failures import leaves

StopFor = Callable[[Exception, float], None]

CANCELLED = "a part of the worker was cancelled that only it may cancel: by a job that reached its scopes or nurseries, most likely"
SYSTEM_TASK_FAILED = "a system task of this program failed, which ends Trio: stopping"


def why_cancelled() -> str:
    """Why a part of the worker is cancelled that only it may cancel."""
    return SYSTEM_TASK_FAILED if a_system_task_failed() else CANCELLED


def a_system_task_failed() -> bool:
    """Whether Trio ends because a task failed that somebody gave to `trio.lowlevel.spawn_system_task`; a handler, say.

    The nursery of such tasks is cancelled then, while the main task, above us, still runs.
    """
    root = trio.lowlevel.current_root_task()
    return root is not None and any(nursery.cancel_scope.cancel_called for nursery in root.child_nurseries[:2])


class Tree:
    """One worker's. `stop_for` is told of what ends the worker by itself, and how many seconds that leaves to jobs."""

    def __init__(
        self, queues: Queues, upkeep: Upkeep, shutdown: Shutdown, within: WithinLimits, stop_for: StopFor
    ) -> None:
        self._queues = queues
        self._upkeep = upkeep
        self._shutdown = shutdown
        self._within = within
        self._stop_for = stop_for
        self._chores = trio.CancelScope()
        self.to_blame: list[tuple[Delivery, State]] = []
        """Jobs of which one may be why the worker ends, each with the state that it was in then: they are charged with it when it leaves.

        But not those that had ended, and whose outcome can be written.
        """

    async def run(self, runner: Runner, started: Callable[[], None], stop: Callable[[float], None]) -> None:
        """Until the worker has stopped. `stop` is called when a job's nursery falls over."""
        async with trio.open_nursery() as upkeep:
            await self._upkeep.start()
            for settler in self._upkeep.settlers.values():
                upkeep.start_soon(self._mind, settler.run)
            upkeep.start_soon(self._shutdown.enforce, self._depart)
            upkeep.start_soon(self._do_chores, runner)
            started()
            try:
                await self._mind(self._queues.run, self._shutdown, self._mind, partial(stop, 0.0))
            finally:
                self._shutdown.drained()
            if await self._depart():
                await self._upkeep.report()
            upkeep.cancel_scope.cancel()

    async def _do_chores(self, runner: Runner) -> None:
        with self._chores:
            async with trio.open_nursery() as nursery:
                for chore in (*self._upkeep.chores, self._within.run):
                    nursery.start_soon(self._mind, chore)
                if runner.hooks:
                    nursery.start_soon(self._mind, runner.hooks.run)
                await self._shutdown.quieted.wait()  # until then consumers compare between two fetches
                for served in self._queues.served.values():
                    nursery.start_soon(self._mind, served.watch)

    async def _mind(self, part: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a part of us. If it fails, all ends in good order; whoever sees to it that the process ends must know of it before that.

        Likewise if it is cancelled by somebody else than us, who do so with no part before the worker is quiet: without it the worker would live on, idle
        and without a word.
        """
        try:
            await part(*args)
        except trio.Cancelled:
            if not self._shutdown.quieted.is_set():
                self._stop_for(RuntimeError(why_cancelled()), 0.0)
            raise
        except Exception as error:  # noqa: BLE001 - raised by the worker, when the jobs are safe
            self._stop_for(next((each for each in leaves(error) if isinstance(each, Exception)), error), 0.0)

    async def _depart(self) -> bool:
        return await self._shutdown.depart(self._upkeep.flush, self._leave)

    async def _leave(self) -> None:
        self._chores.cancel()  # a heartbeat after we have left would bring us back
        blamed = [delivery.jid for delivery, was in self.to_blame if was is RUNNING or delivery.state is SETTLING]
        self.to_blame = []
        with suppress(Superseded):  # then nothing there is ours any more
            if blamed:
                await self._upkeep.charge(blamed)
            await self._upkeep.leave(lambda queue: self._queues.served[queue].has_running)
