"""How the progress of a running job gets into its payload, and how a job leaves that can go on elsewhere: opened for the few that ask."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import attrs
import trio

from trioworkers.departures import Held
from trioworkers.engine.containment import passes_by
from trioworkers.engine.delivery import LOST, Checkpoints, Delivery
from trioworkers.failures import leaves
from trioworkers.jobs.progress import Progress
from trioworkers.jobs.recording import Record
from trioworkers.outcome import Outcome, Requeue, Snooze
from trioworkers.wire.encode import addressed
from trioworkers.wire.fitting import fitted
from trioworkers.wire.job import Job
from trioworkers.wire.log_lines import LogLines
from trioworkers.wire.reported import Reported

logger = logging.getLogger("trioworkers")


@attrs.define(eq=False)
class Recorder:
    """One attempt's. `max_bytes`: no payload gets larger than that. `worker_stops`: whether this worker is about to stop. `reports`: told when the job has said how far it is."""

    delivery: Delivery
    job: Job
    max_bytes: float
    worker_stops: Callable[[], bool]
    reports: Callable[[Delivery], None]
    progress: Progress | None = attrs.field(default=None, init=False)
    _begun: tuple[int, tuple[str, ...]] = attrs.field(default=(0, ()), init=False)

    def progressed(self, payload: bytes) -> bytes | None:
        """`payload` with the progress so far, if there is any."""
        fields = {} if self.progress is None else self.progress.fields()
        # With its jid, lest one that is made from the payload's bytes become another.
        return fitted(payload, fields, self.max_bytes, jid=self.job.jid) if fields else None

    def begin(self) -> None:
        """What is known now is about to be written."""
        record = self._record
        self._begun = (0, ()) if record is None else record.write()

    def end(self, *, ok: bool) -> None:
        """It is written, or can't be."""
        record = self._record
        if ok and record is not None:
            record.wrote(self._begun)

    def close(self) -> None:
        """The job's outcome is written: nobody asks any more."""
        record, self.progress = self._record, None
        if record is not None:
            record.on_beside = None

    @property
    def _record(self) -> Record | None:
        return None if self.progress is None else self.progress.record

    def hold(self) -> None:
        """See `Attempt.hold`."""
        held = self.delivery.held or Held(self.job.jid)
        self.delivery.held = attrs.evolve(held, record=self._record)

    # ── the attempt, as the job sees it ────────────────────────────────────────────────────────────────────────────────

    @property
    def is_stopping(self) -> bool:
        """See `Attempt.is_stopping`."""
        return self.worker_stops()

    @property
    def was_taken_over(self) -> bool:
        """See `Attempt.was_taken_over`."""
        return self.delivery.state is LOST

    def report(self, told: Reported) -> None:
        """See `Attempt.report`."""
        self.delivery.held = attrs.evolve(self.delivery.held or Held(self.job.jid), told=told)
        self.reports(self.delivery)

    def keep_log(self, lines: LogLines) -> None:
        """See `Attempt.keep_log`."""
        self.delivery.held = attrs.evolve(self.delivery.held or Held(self.job.jid), log=lines)

    def leave(self, *, to_others: bool = False) -> None:
        """See `Attempt.leave`."""
        self.delivery.cancel(self._behind if to_others else None)

    def _behind(self, requeue: Requeue) -> Outcome:
        payload = self.delivery.payload if requeue.payload is None else requeue.payload
        return Snooze(addressed(payload, self.delivery.queue, self.job.jid), 0.0)


def open_progress(
    delivery: Delivery,
    job: Job,
    save: Callable[[Delivery], trio.Event],
    max_bytes: float,
    worker_stops: Callable[[], bool],
    reports: Callable[[Delivery], None],
) -> Progress:
    """The progress of `delivery`'s job. `save`: makes durable at once what `delivery.checkpoints` has to say. Else see `Recorder`."""
    recorder = Recorder(delivery, job, max_bytes, worker_stops, reports)
    recorder.progress = progress = Progress.of(job, partial(save, delivery), recorder)
    # The payload of now: the checkpoints to come replace the delivery's.
    delivery.checkpoints = Checkpoints(partial(recorder.progressed, delivery.payload), recorder)
    if job.recorded is not None and job.recorded.beside:
        progress.open_record()
        recorder.hold()
    return progress


CLOSING_S = 0.25


async def close_sources(progress: Progress | None) -> None:
    """Close the sources of iterations that an attempt left before they were through. Bounded, for the attempt's own time may be over."""
    if progress is None or progress.record is None or not progress.record.sources:
        return
    with trio.CancelScope(deadline=trio.current_time() + CLOSING_S, shield=True):
        while progress.record.sources:
            try:
                await progress.record.aclose()
            except BaseException as error:
                if any(map(passes_by, leaves(error))):
                    raise
                logger.exception("the source of an iteration could not be closed")
