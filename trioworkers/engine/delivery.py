"""What a fetch brings: one payload on its way through the worker, and the states that it may pass.

```
          ┌──────────── put back or refused before its start ─────────────┐
FETCHED ──┼──► RUNNING ── an outcome is decided and handed in ──► SETTLING ──► SETTLED
          └──► LOST ◄── RUNNING: another worker has it; nothing is written ───────▲
```
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import IntEnum
from itertools import count
from typing import Protocol

import attrs
import trio

from trioworkers.departures import Held
from trioworkers.outcome import REQUEUE, Checkpoint, Outcome, Requeue
from trioworkers.wire.job import Job

logger = logging.getLogger("trioworkers")


class State(IntEnum):
    """Where a delivery is. It holds its slot in all states but the last."""

    FETCHED = 0
    RUNNING = 1
    LOST = 2
    SETTLING = 3
    SETTLED = 4


FETCHED, RUNNING, LOST, SETTLING, SETTLED = State  # Python 3.11 takes 0.2 µs to find a member through its class


ALLOWED: dict[State, tuple[State, ...]] = {
    FETCHED: (RUNNING, SETTLING, LOST),
    RUNNING: (SETTLING, LOST),
    LOST: (SETTLING, SETTLED),
    SETTLING: (SETTLED,),
    SETTLED: (),
}
_ALLOWED = [ALLOWED[state] for state in State]  # by index: a State's hash is dear, too


@attrs.define(eq=False)
class Cancellation:
    """That a delivery was cancelled by us: not by its own deadline, nor by its handler.

    `operator_outcome`: makes of its outcome what an operator wants who cancelled this very job. `took_effect`: so its attempt ended.
    """

    operator_outcome: Callable[[Requeue], Outcome] | None = None
    took_effect: bool = False


class Recorder(Protocol):
    """Who wants to know what of a job's progress Redis has."""

    def begin(self) -> None:
        """What is known now is about to be written."""

    def end(self, *, ok: bool) -> None:
        """It is written, or can't be."""

    def close(self) -> None:
        """The job's outcome is written."""


@attrs.define(eq=False)
class Checkpoints:
    """How the progress of a running job gets into its payload. `progressed`: the payload with what is done by now; None without news.

    `wanted`: set when what was done before it was asked for is written, or its job has ended. `writing`, `written`: the payload that
    is on its way to the place of the delivered one, and whom to tell. `recorder`: told when what is known is about to be written,
    and how that went.
    """

    progressed: Callable[[], bytes | None]
    recorder: Recorder | None = None
    wanted: trio.Event | None = None
    writing: bytes | None = None
    written: trio.Event | None = None

    def payload(self) -> bytes | None:
        """What is to take the delivered payload's place now, if anything. Can't raise: then it is None."""
        try:
            return self.progressed()
        except Exception:
            logger.exception("the progress of a job can't be written into its payload: it is not kept")
            return None

    def begin(self, payload: bytes) -> Checkpoint | None:
        """What has to be written now in the place of `payload`; None if the job's outcome has overtaken it, or without news."""
        wanted, self.wanted = self.wanted, None
        if wanted is None or wanted.is_set():
            return None
        if self.recorder is not None:
            self.recorder.begin()
        progressed = self.payload()
        if progressed is None or progressed == payload:
            self._tell(ok=progressed is not None)
            wanted.set()
            return None
        self.writing, self.written = progressed, wanted
        return Checkpoint(progressed)

    def end(self, *, ok: bool) -> bytes | None:
        """What was on its way is written, or can't be; returns it."""
        payload, written = self.writing, self.written
        self.writing = self.written = None
        self._tell(ok=ok)
        if written is not None:
            written.set()
        return payload

    def _tell(self, *, ok: bool) -> None:
        if self.recorder is not None:
            self.recorder.end(ok=ok)

    def overtaken(self) -> None:
        """The outcome takes the progress along: nobody needs to wait for a checkpoint."""
        if self.wanted is not None:
            self.wanted.set()


@attrs.define(eq=False)
class Delivery:
    """A fetched payload, from its fetch until its outcome is written; it occupies a slot of its queue.

    `crashes`: of a suspect, how many workers died under it, perhaps none. `job`, `task`, `scope`: once they are known: what it is, and what it runs in.
    `cancellation`: once it was cancelled. `checkpoints`: of a job that may want one. `held`: what the few hold that
    hold anything. `number`: in which order they were fetched.
    """

    queue: str
    payload: bytes
    started_at: float
    crashes: int | None = None
    state: State = FETCHED
    job: Job | None = None
    task: trio.lowlevel.Task | None = None
    scope: trio.CancelScope | None = None
    cancellation: Cancellation | None = None
    checkpoints: Checkpoints | None = None
    held: Held | None = None
    number: int = attrs.field(factory=count().__next__)

    def become(self, state: State) -> None:
        """Go on to another state. RuntimeError if there is no way: two parts of the worker believe that the delivery is theirs."""
        if state not in _ALLOWED[self.state]:
            raise RuntimeError(f"a delivery that is {self.state.name} does not become {state.name}")
        self.state = state

    @property
    def is_decided(self) -> bool:
        """Whether its outcome is handed in, or even written."""
        return self.state >= SETTLING

    @property
    def jid(self) -> str:
        """Its job's id; "" before it is decoded."""
        return "" if self.job is None else self.job.jid

    @property
    def job_class(self) -> str:
        """Its job's class; "" before it is decoded."""
        return "" if self.job is None else self.job.job_class

    def start(self, deadline: float) -> trio.CancelScope:
        """The scope for its attempt, which ends at `deadline` on `trio.current_time()`'s clock. One scope does for both: each costs.

        Shielded: only `cancel` and its deadline end it, whatever a job does to the nursery that its neighbours are in, too.
        """
        self.become(RUNNING)
        self.scope = scope = trio.CancelScope(deadline=deadline, shield=True)
        if self.cancellation is not None:
            scope.cancel()
        return scope

    def wait(self) -> trio.CancelScope:
        """A scope for what it waits for before its start; `cancel` ends it, too."""
        self.scope = scope = trio.CancelScope(shield=True)
        if self.cancellation is not None:
            scope.cancel()
        return scope

    def cancel(self, operator_outcome: Callable[[Requeue], Outcome] | None = None) -> None:
        """Stop it, started or not. `operator_outcome`: see `Cancellation`. Can't raise: a worker that stops cancels all of them in a row."""
        if self.cancellation is None:
            self.cancellation = Cancellation()
        if operator_outcome is not None:
            self.cancellation.operator_outcome = operator_outcome
        if self.scope is not None:
            try:
                self.scope.cancel()
            except Exception:  # the abort function of something that it waits for
                logger.exception("job %s (%s) can't be cancelled", self.jid, self.job_class)

    @property
    def was_stopped(self) -> bool:
        """Whether its attempt ended because it was cancelled."""
        return self.cancellation is not None and self.cancellation.took_effect

    def stopped(self) -> Outcome:
        """Its attempt ended because it was cancelled: with this outcome."""
        if self.cancellation is not None:
            self.cancellation.took_effect = True
        return self.when_stopped()

    def when_stopped(self) -> Outcome:
        """Its outcome, if it is stopped now. Can't raise: a worker that stops asks all of them in a row."""
        progressed = None if self.checkpoints is None else self.checkpoints.payload()
        requeue = REQUEUE if progressed is None else Requeue(progressed)
        wanted = None if self.cancellation is None else self.cancellation.operator_outcome
        try:
            return requeue if wanted is None else wanted(requeue)
        except Exception:
            logger.exception(
                "job %s (%s) can't be ended as the operator wanted: it is put back", self.jid, self.job_class
            )
            return requeue

    def forget_progress(self) -> None:
        """Its outcome is written. It and its progress hold each other: thousands of such pairs would keep Python's collector at work, which else finds nothing to do."""
        if self.checkpoints is not None and self.checkpoints.recorder is not None:
            self.checkpoints.recorder.close()
        self.checkpoints = None

    def forms(self) -> tuple[bytes, ...]:
        """What may stand for it in the in-progress list: while a checkpoint is being written, either payload."""
        writing = None if self.checkpoints is None else self.checkpoints.writing
        return (self.payload,) if writing is None else (self.payload, writing)


def by_queue(deliveries: Iterable[Delivery]) -> dict[str, list[Delivery]]:
    """The same, each under the name of its queue."""
    found: defaultdict[str, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        found[delivery.queue].append(delivery)
    return found
