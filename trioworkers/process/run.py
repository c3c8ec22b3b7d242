"""What `app.run()` is: trio.run, signals, an end in time, a patient collector."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from trioworkers.aside import aside
from trioworkers.broker.emergency import release_all
from trioworkers.broker.ungrouped import ungrouped
from trioworkers.engine.serve import serve
from trioworkers.engine.tree import why_cancelled
from trioworkers.failures import innermost_module, is_a, leaves, summary
from trioworkers.health import Pulse
from trioworkers.jobs.importing import check_not_imported
from trioworkers.loggers import uninterrupted
from trioworkers.process.collector import patient_collector
from trioworkers.process.ending import ending
from trioworkers.process.logs import ensure_logging
from trioworkers.process.pulse import keep_telling
from trioworkers.process.signals import Ear, hearing
from trioworkers.process.streams import fill_closed_streams
from trioworkers.tracebacks import last_place

if TYPE_CHECKING:
    from trioworkers.engine.worker import Worker
    from trioworkers.jobs.declarations import Declarations


def run(app: Declarations, tell: Callable[[Pulse], None] | None = None) -> None:
    """See `App.run`. `tell` hears twice a second how the worker is, in the event loop."""
    check_not_imported()
    if threading.current_thread() is not threading.main_thread():
        trio.run(serve, app)
        return
    fill_closed_streams()
    ensure_logging()
    timeout_s = app.settings.shutdown_timeout
    slots = sum(capsule.concurrency for capsule in app.capsules)
    life = _Life()
    ending.begin(life.put_back, lambda: life.reason)
    with hearing() as ear:
        try:
            with ungrouped(), uninterrupted(), ear.guarding(), patient_collector(slots):
                trio.run(partial(_run, app, ear, life, timeout_s, tell))
        except BaseException as error:
            life.failed = error
            life.tell_if_torn(error)
            if life.is_torn_by(error):  # else a program could end in good order that nobody has told to
                text = "the worker was ended by %s, which nobody asked for; it was raised in the middle of the event loop, at %s"
                aside.log(logging.ERROR, text, summary(error)[0], last_place(error) or "an unknown place")
                raise SystemExit(1) from error
            raise
        finally:
            ending.over(timeout_s)


async def _run(
    app: Declarations, ear: Ear, life: _Life, timeout_s: float, tell: Callable[[Pulse], None] | None
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            ear.start(lambda _: life.give_up(scope), timeout_s)
            life.worker = worker = await nursery.start(serve, app)
            ear.attend(worker)
            nursery.start_soon(_watch_stop, worker, life)
            if tell is not None:
                nursery.start_soon(keep_telling, worker, tell)


async def _watch_stop(worker: Worker, life: _Life) -> None:
    """However the worker came to stop (a signal, Sidekiq's web page), its deadline is kept. In `run` nobody cancels it but a job that shouldn't."""
    try:
        await worker.told_to_stop.wait()
    except trio.Cancelled:
        if not life.given_up:
            worker.stop_for(RuntimeError(why_cancelled()))
        ending.expect(worker.deadline - trio.current_time())
        raise
    ending.expect(worker.deadline - trio.current_time())


class _Life:
    """What whoever ends the process must know of its worker."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.failed: BaseException | None = None
        self.given_up = False
        """Whether its start was, for a signal."""

    def give_up(self, start: trio.CancelScope) -> None:
        """Stopped while it starts."""
        self.given_up = True
        start.cancel()

    @property
    def reason(self) -> object:
        """Why it ended, if that was no stop."""
        return self.failed if self.worker is None or self.failed is not None else self.worker.stopped_for

    def tell_if_torn(self, error: BaseException) -> None:
        """Say what becomes of the jobs if the event loop was torn apart: under its worker a crash, of which nobody knows which job it was."""
        of_trios = isinstance(error, trio.TrioInternalError) or (innermost_module(error) or "").startswith(
            "trio._core._io"
        )
        if self.worker is not None and of_trios:
            text = "The event loop broke, through a job that closed descriptors of the process, say: its jobs stay in progress, safe in Redis, and are taken over as after a crash"
            if self.worker.gone.is_set():
                text = "The event loop broke through a task or a callback that isn't the worker's, a job's perhaps. The worker had ended before: its own last lines say how"
            error.add_note(text)  # the log may be among what was closed

    def is_torn_by(self, error: BaseException) -> bool:
        """Whether it is what ends a program, out of nowhere: raised by a thread in ours, by what the log calls, or the like."""
        ends = all(is_a(leaf, (SystemExit, KeyboardInterrupt, GeneratorExit, trio.Cancelled)) for leaf in leaves(error))
        return ends and self.worker is not None and not self.worker.told_to_stop.is_set()

    def put_back(self) -> None:
        """Put its jobs back for it, over another event loop: its own is blocked, or waits for a job that won't end. Raises BrokerError.

        Not if one of them may be why it ended: nobody could charge them any more.
        """
        if self.worker is None or self.worker.gone.is_set():
            return
        if self.worker.blames_jobs:
            aside.log(logging.ERROR, "its jobs stay in progress, safe in Redis, and are taken over as after a crash")
            return
        aside.log(logging.ERROR, "its jobs are put back")
        trio.run(release_all, self.worker.lists)
