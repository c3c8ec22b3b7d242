"""Writes outcomes in groups until Redis has them; a slot is free when its outcome is written.

Finished jobs hand their outcome in without awaiting, so that nothing can come between "it happened" and "it is noted". All
that wait go out in one script. An outcome that Redis can't take now is kept and tried again, until it is written or the worker has stopped:
what waits then is dropped with this process, its payload is still in progress, and its job runs again without a charge.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import trio

from trioworkers.broker.contract import Broker, Settlement
from trioworkers.broker.redis.connection import backoff, retrying
from trioworkers.departures import Held, on_outcome
from trioworkers.engine.delivery import LOST, SETTLED, SETTLING, Delivery
from trioworkers.engine.unwritable import Unmade, Unwritable
from trioworkers.errors import BrokerError
from trioworkers.exits import Effect
from trioworkers.failures import summary
from trioworkers.outcome import (
    ACKNOWLEDGE,
    LET_GO,
    Acknowledge,
    Bury,
    Checkpoint,
    Discard,
    Expire,
    LetGo,
    Outcome,
    Requeue,
    Retry,
    Snooze,
)

logger = logging.getLogger("trioworkers")

MAX_GROUP = 1000
GATHER_FROM, GATHER_TO, GATHER_S = 50, 250, 0.005
GATHER_ROUNDS = 4
"""Rounds of the event loop without news after which nothing is about to come: a consumer starts what it fetched every three."""
GONE = "gone"

Entry = tuple[Delivery, Outcome | Checkpoint | LetGo]


class Settler:
    """The one task that writes the outcomes of a broker's queues. `on_settled(deliveries)` frees their slots; `on_dismissed`: those of jobs that didn't run.

    `is_leaving`: whether the worker is about to go. Then what is only to be put back stays in its list: the end moves the list
    as a whole and in order, ten thousand jobs in the time that it takes to take a few hundred out of its midst.
    """

    def __init__(
        self,
        broker: Broker,
        on_settled: Callable[[Sequence[Delivery]], None],
        is_leaving: Callable[[], bool] = lambda: False,
        on_dismissed: Callable[[Sequence[Delivery]], None] | None = None,
    ) -> None:
        self._broker = broker
        self._on_settled = on_settled
        self.is_leaving = is_leaving
        self._on_dismissed = on_dismissed
        self._waiting: deque[tuple[Delivery, Outcome | LetGo | None]] = (
            deque()
        )  # None: a checkpoint, of what is known when it goes out
        self._writing = 0
        self._arrived = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._groups = 0
        self._cleared: list[str] = []
        self._notes: deque[Sequence[Effect]] = deque()
        self._unwritable = Unwritable()

    def __repr__(self) -> str:
        return f"<Settler: {len(self._waiting)} waiting, {self._writing} being written>"

    @property
    def groups(self) -> int:
        """How many were written, or tried."""
        return self._groups

    def submit(self, delivery: Delivery, outcome: Outcome) -> None:
        """Hand in how an attempt ended. A delivery that others have taken over only frees its slot."""
        if delivery.state >= SETTLING:
            return
        if delivery.checkpoints is not None:
            delivery.checkpoints.overtaken()
        if delivery.state is LOST:
            self._let_go(delivery)
            return
        delivery.become(SETTLING)
        if _changes_nothing(delivery, outcome) and self.is_leaving():
            self._settled([delivery])
            return
        self._hand_in(delivery, outcome)

    def _let_go(self, delivery: Delivery) -> None:
        if delivery.held is None or not (delivery.held.permit or delivery.held.within):
            self._settled([delivery])
        else:
            delivery.become(SETTLING)
            self._hand_in(delivery, LET_GO)

    def dismiss(self, delivery: Delivery) -> None:
        """It has left this worker already, in the step that parked it: nothing is to be written, and nothing to be counted."""
        delivery.become(SETTLING)
        delivery.become(SETTLED)
        (self._on_dismissed or self._on_settled)([delivery])

    def checkpoint(self, delivery: Delivery) -> trio.Event:
        """Record how far a running job is: its payload with what was done until the write goes out, which several calls share.

        The event is set when that is written, when Redis says that it can't be (a line in the log), or when it has no meaning any more:
        the job has ended, or is no longer ours. A worker that stops first doesn't set it.
        """
        checkpoints = delivery.checkpoints
        if checkpoints is None or delivery.is_decided:
            return _set_event()
        if checkpoints.wanted is None:
            checkpoints.wanted = trio.Event()
            self._hand_in(delivery, None)
        return checkpoints.wanted

    def _hand_in(self, delivery: Delivery, outcome: Outcome | LetGo | None) -> None:
        if not self._waiting:  # else `run` has been told
            self._idle = trio.Event() if self._idle.is_set() else self._idle
            self._arrived.set()
        self._waiting.append((delivery, outcome))

    def clear(self, jid: str) -> None:
        """A suspected job came through; said to Redis with the next group."""
        self._cleared.append(jid)

    def note(self, effects: Sequence[Effect]) -> None:
        """Have these written with the next group: about jobs that go on. Nobody waits for them, nor asks whether they are written."""
        self._notes.append(effects)
        self._arrived.set()

    async def run(self) -> None:
        """Write for ever. Cancellation: between two tries; what is not written then never is: its jobs are still in progress, and run again."""
        while True:
            if not self._waiting and not self._notes:
                self._idle.set()
                self._arrived = trio.Event()
                await self._arrived.wait()
            await self._gather()
            await self._write(self._take())

    async def _gather(self) -> None:
        """Under load wait for what is about to come: a write costs Redis eight commands, for one outcome or a thousand."""
        if len(self._waiting) < GATHER_FROM:
            return
        until = trio.current_time() + GATHER_S
        rounds = 0
        while len(self._waiting) < GATHER_TO and rounds < GATHER_ROUNDS and trio.current_time() < until:
            before = len(self._waiting)
            await trio.lowlevel.checkpoint()
            rounds = 0 if len(self._waiting) > before else rounds + 1

    async def flushed(self) -> None:
        """Wait until everything that was handed in is written. For ever, once `run` was cancelled with something left."""
        await self._idle.wait()

    def _take(self) -> list[Entry]:
        group: list[Entry] = []
        size, most_bytes = 0, self._broker.at_once_bytes
        while self._waiting and len(group) < MAX_GROUP and size < most_bytes:
            delivery, outcome = self._waiting.popleft()
            entry = _begun_checkpoint(delivery) if outcome is None else outcome
            if entry is not None:
                group.append((delivery, entry))
                size += len(delivery.payload) + (0 if entry is ACKNOWLEDGE else _weight(entry, delivery.held))
        # Redis looks for each payload from the oldest on.
        group.sort(key=lambda entry: entry[0].number)
        return group

    async def _write(self, group: list[Entry]) -> None:
        if not group and not self._notes:
            return
        self._writing = len(group)
        settlements = [
            Settlement(delivery.queue, delivery.payload, outcome)
            if delivery.held is None
            else Settlement(delivery.queue, delivery.payload, outcome, on_outcome(outcome, delivery.held))
            for delivery, outcome in group
        ]
        if self._notes:
            settlements.append(Settlement("", b"", LET_GO, self._notes.popleft()))
        problems = await self._settle(settlements)
        self._writing = 0
        written: list[Delivery] = []
        kept: list[tuple[Delivery, Outcome | LetGo | None]] = []
        for index, (delivery, outcome) in enumerate(group):
            problem = problems.get(index) if problems else None
            if isinstance(outcome, Checkpoint):
                _end_checkpoint(delivery, problem)
                continue
            if problem is not None and problem != GONE:
                instead = self._unwritable.instead(delivery, outcome, problem)
                if instead is not None:
                    kept.append((delivery, instead))
                    continue
            if problem == GONE:
                _log_gone(delivery, outcome)
            written.append(delivery)
        self._settled(written)
        if kept:
            await self._keep(kept)

    async def _settle(self, settlements: list[Settlement]) -> dict[int, str]:
        """By their index the problems of those that are not written."""
        self._groups += 1
        number = self._groups
        cleared, self._cleared = self._cleared, []
        try:
            return await retrying(lambda: self._broker.settle(number, settlements, cleared))
        except BrokerError:
            raise
        except Exception as error:  # noqa: BLE001 - before anything was sent: an outcome has no form in bytes
            self._cleared = cleared + self._cleared
            reason = Unmade(": ".join(summary(error)))
        return await self._settle_one_by_one(settlements, reason)

    async def _settle_one_by_one(self, settlements: list[Settlement], reason: Unmade) -> dict[int, str]:
        """Whose outcome it is that has no form shows when each goes by itself; it keeps none of the others back."""
        if len(settlements) == 1:
            return {0: reason}
        found = [await self._settle([settlement]) for settlement in settlements]
        return {index: problems[0] for index, problems in enumerate(found) if problems}

    def _settled(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if self._unwritable.since:
                self._unwritable.since.pop(delivery, None)
            delivery.become(SETTLED)
            if delivery.checkpoints is not None:
                delivery.forget_progress()
        self._on_settled(deliveries)

    async def _keep(self, kept: list[tuple[Delivery, Outcome | LetGo | None]]) -> None:
        self._waiting.extend(kept)
        if len(self._waiting) == len(kept):  # nothing else to do: wait before the next try
            await trio.sleep(next(backoff()) * 20)


def _weight(outcome: Outcome | Checkpoint | LetGo, held: Held | None) -> int:
    """About how many bytes it brings along, besides the payload that it takes away."""
    if isinstance(outcome, Acknowledge):
        return outcome.size
    if isinstance(outcome, Discard | Expire | LetGo):
        return 0
    beside = 0 if held is None or held.record is None else held.record.unsaved_bytes
    return len(outcome.payload or b"") + beside


def _changes_nothing(delivery: Delivery, outcome: Outcome) -> bool:
    return isinstance(outcome, Requeue) and outcome.payload in (None, delivery.payload)


def _begun_checkpoint(delivery: Delivery) -> Checkpoint | None:
    return None if delivery.checkpoints is None else delivery.checkpoints.begin(delivery.payload)


def _end_checkpoint(delivery: Delivery, problem: str | None) -> None:
    payload = None if delivery.checkpoints is None else delivery.checkpoints.end(ok=problem is None)
    if problem is not None:
        logger.warning("job %s (%s): its progress could not be recorded: %s", delivery.jid, delivery.job_class, problem)
    elif payload is not None:
        delivery.payload = payload


def _set_event() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


def _log_gone(delivery: Delivery, outcome: Outcome | LetGo) -> None:
    names = {Acknowledge: "success", Retry: "retry", Bury: "burial", Requeue: "requeue", Snooze: "snooze"}
    what = names.get(type(outcome), "discard")
    # Who was read and has not started was asked about its limits and locks: the reply that it has to wait for them may be lost.
    waits = "it waits for its limit or lock, or " if delivery.job is not None and delivery.scope is None else ""
    logger.warning(
        "job %s (%s) is no longer ours: %sanother worker took it over; its %s is not written",
        delivery.jid or "without id",
        delivery.job_class or "unreadable",
        waits,
        what,
    )
