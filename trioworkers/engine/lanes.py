"""Lanes: tasks in which jobs run one after the other for as long as none of them waits.

A task costs a good deal more than what many a job does. One that ends without having waited leaves its task as good as new, so the
next job that is ready runs in it. As soon as one waits, those behind it get tasks of their own, within two rounds of the event loop;
and as many tasks as that took are opened at once the next time. So no job waits for another, and while it runs it has its task to itself.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from typing import Protocol

import trio

from trioworkers.engine.containment import comes_from_outside
from trioworkers.engine.delivery import FETCHED, LOST, Delivery
from trioworkers.errors import BrokerError
from trioworkers.failures import is_a, summary
from trioworkers.outcome import REQUEUE, Bury, Outcome
from trioworkers.wire.dialect import Failure

logger = logging.getLogger("trioworkers")


class Starts(Protocol):
    """What tasks are started in."""

    def start_soon(self, function: Callable[[], Awaitable[None]], *, name: str) -> object:
        """As a Trio nursery's."""


class Lanes:
    """The lanes of one queue. `run` runs a delivery, `submit` is handed how that ended; `name` is what the tasks are called."""

    def __init__(
        self, run: Callable[[Delivery], Awaitable[Outcome]], submit: Callable[[Delivery, Outcome], None], name: str
    ) -> None:
        self._run = run
        self._submit = submit
        self._name = name
        self._ready: deque[Delivery] = deque()
        self._expected = 1
        self._used = 0
        self._context = copy_context()
        self._values = _values(self._context)

    async def start(self, deliveries: Sequence[Delivery], jobs: Starts) -> None:
        """Have them all run, in tasks of `jobs`. No cancellation ends it: what is fetched must be started, or nobody knows of it."""
        self._ready.extend(deliveries)
        self._used = 0
        self._context = copy_context()  # with which tasks begin, and which keeps the values alive
        self._values = _values(self._context)
        self._open(min(self._expected, len(deliveries)), jobs)
        if len(deliveries) == 1:
            return
        for _ in range(2):  # we may come before the lanes in the next round, but not in the one after it
            await trio.lowlevel.cancel_shielded_checkpoint()
        stuck = len(self._ready)
        self._open(stuck, jobs)
        self._expected = max(1, self._used + stuck)

    def _open(self, count: int, jobs: Starts) -> None:
        for _ in range(count):
            jobs.start_soon(self._lane, name=self._name)

    async def _lane(self) -> None:
        task = trio.lowlevel.current_task()
        if self._ready:
            self._used += 1
        while self._ready:
            delivery = self._ready.popleft()
            if delivery.state is not FETCHED:  # put back or taken over before it began: for somebody else to run
                if delivery.state is LOST:
                    self._submit(delivery, REQUEUE)
                continue
            delivery.task = task
            outcome = None
            try:
                outcome = await self._run(delivery)
            except BrokerError:
                # Redis won't have us any more: whoever asks next stops the worker; this goes back as it came.
                pass
            except BaseException as error:  # whatever it is, the others go on: a trace function of the job's, say, that raises in code of ours
                if is_a(error, trio.Cancelled) or comes_from_outside(error, delivery):
                    raise
                outcome = _buried(delivery, error)
            finally:
                delivery.task = None  # what runs in it from now on is not this one's
                how = delivery.when_stopped() if outcome is None else outcome
                try:
                    self._submit(delivery, how)
                except BaseException as error:  # noqa: BLE001 - it is raised again if it is for others
                    self._submit_again(delivery, how, error)
            # Neither are its values for the next one's eyes, nor can a task go on in which a nursery was left open.
            if _values(copy_context()) != self._values or task.child_nurseries:
                break

    def _submit_again(self, delivery: Delivery, how: Outcome, error: BaseException) -> None:
        """After `error`, which a profile function of the job's has raised, say: one that has raised is called no more."""
        self._submit(delivery, how)
        if comes_from_outside(error, delivery):
            raise error
        text = "job %s (%s) tore what hands in its outcome"
        logger.error(text, delivery.jid, delivery.job_class, exc_info=error)


def _buried(delivery: Delivery, error: BaseException) -> Bury:
    text = "job %s (%s) met a bug of trioworkers, and goes to dead"
    logger.error(text, delivery.jid, delivery.job_class, exc_info=error)
    return Bury(delivery.payload, failure=Failure(*summary(error)))


def _values(context: Context) -> list[int]:
    """What context variables hold, told by identity: equal lists are two, and comparing foreign values would run foreign code."""
    return [*map(id, context.values())]
