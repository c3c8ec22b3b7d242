"""The nursery tree of one worker: serve ⊃ upkeep ⊃ a nursery of jobs for each queue ⊃ that queue's intake.

Stopping is the shape of the tree: every intake is cancelled; the jobs' nurseries get a deadline; when they are empty, or their
jobs' requeues are handed in because they won't stop, upkeep flushes what is unwritten and says farewell.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

import attrs
import trio

from trioworkers.broker.brokers import Brokers
from trioworkers.broker.emergency import Lists
from trioworkers.broker.intake import LeaseGone, open_intake
from trioworkers.broker.moves import Broker, Due
from trioworkers.broker.presence import BEATS_PER_LEASE, Beat, Presence
from trioworkers.broker.redis.connection import Connection, retrying
from trioworkers.broker.resque_broker import ResqueBroker
from trioworkers.engine.consumer import Consumer
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.heartbeat import Heartbeat
from trioworkers.engine.job_metrics import Reporter
from trioworkers.engine.maintenance import Promoter, Reclaimer
from trioworkers.engine.neighbour_watch import NeighbourWatch
from trioworkers.engine.permits import Permits
from trioworkers.engine.quarantine import Quarantine
from trioworkers.engine.remote_control import RemoteControl
from trioworkers.engine.resque_registration import ResqueRegistration
from trioworkers.engine.runner import Runner
from trioworkers.engine.settler import Settler
from trioworkers.engine.skipped import SkippedJobs
from trioworkers.engine.slots import Slots
from trioworkers.engine.tending import Tending
from trioworkers.errors import Refused, Superseded
from trioworkers.jobs.limits import Limits, concurrency_by_name
from trioworkers.printable import Lines
from trioworkers.wire.own_record import Identity
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

GRACE_S = 0.6
"""What cancelled jobs get to clean up, before they are put back while they still run."""

FLUSH_S = 0.25
"""What the last writes may take."""


_Chore = Heartbeat | Promoter | Reclaimer | RemoteControl | NeighbourWatch | Reporter | ResqueRegistration | Tending


@attrs.frozen
class Stats:
    """What a worker is doing, by queue: jobs running (or waiting to be settled), slots free.

    `settled`: deliveries whose outcome is written. `left`: by queue, how often a job was left for others as its class has no handler here.
    """

    running: Mapping[str, int]
    free: Mapping[str, int]
    settled: int
    left: Mapping[str, int]
    quiet: bool
    stopping: bool


class Worker:
    """One running worker, as `app.serve` hands it out. Its methods may be called from any task of its Trio program."""

    def __init__(
        self,
        brokers: Brokers,
        connection: Connection,
        identity: Identity,
        queues: Mapping[str, int],
        *,
        url: str,
        shutdown_timeout_s: float,
        strict: bool,
        limits: Mapping[str, Limits] | None = None,
    ) -> None:
        self.identity = identity
        self._brokers = brokers
        self._broker = broker = brokers.main
        self._connection = connection
        self._queues = queues
        self._url = url
        self.shutdown_timeout_s = shutdown_timeout_s
        self._presence = Presence(broker, str(identity), list(queues), brokers.by_queue)
        self._settlers = {
            broker: Settler(broker, self._on_settled, lambda: trio.current_time() >= self._deadline)
            for broker in brokers.in_use
        }
        self._dialects = {queue: broker.dialect for queue, broker in brokers.by_queue.items()}
        self._remote = RemoteControl(broker, self.running, self._dialects)
        self._limits = limits or {}
        self._tending = Tending(broker, concurrency_by_name(self._limits.values()))
        self._registrations = self._make_registrations()
        self._watch = self._make_watch(strict=strict)
        self.stopped_for: Exception | None = None
        """Why it stopped, if it did so by itself: `run` raises it, unless jobs that won't stop keep it from ending."""
        self._consumers: dict[str, Consumer] = {}
        self._intakes = {queue: trio.CancelScope() for queue in queues}
        self._jobs = {queue: trio.CancelScope() for queue in queues}
        self._deadline = math.inf
        self._deadline_moved = trio.Event()
        self._farewell: Sequence[trio.CancelScope] = ()
        self._settled = dict.fromkeys(queues, 0)
        self._skipped = SkippedJobs()
        self._quieted = trio.Event()
        self._chores = trio.CancelScope()
        self._drained = trio.Event()
        self.told_to_stop = trio.Event()
        self.on_signal: Callable[[str], None] = self._obey
        self.gone = trio.Event()
        """Set when everything is safe in Redis and farewell is said, even if jobs that won't stop still run."""

    def __repr__(self) -> str:
        state = "stopping" if self.stopping else "quiet" if self._is_quiet else "running"
        return f"<Worker {self.identity}: {state}, {sum(1 for _ in self.running())} jobs running>"

    @property
    def _is_quiet(self) -> bool:
        return self._quieted.is_set()

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._deadline < math.inf

    @property
    def deadline(self) -> float:
        """When running jobs are cancelled, by `trio.current_time()`; inf while the worker isn't stopping."""
        return self._deadline

    @property
    def lists(self) -> Lists:
        """Where its in-progress lists are, for whoever has to put its jobs back when it can't."""
        return Lists(self._url, self._broker.keys, self._broker.holder, str(self.identity), self._dialects)

    def running(self) -> Iterable[Delivery]:
        """The jobs that run now."""
        return (delivery for consumer in self._consumers.values() for delivery in consumer.deliveries)

    def _is_idle(self) -> bool:
        return not any(self.running())

    def _speaks(self, broker: Broker, queue: str) -> bool:
        return self._brokers.by_queue[queue] is broker

    def quiet(self) -> None:
        """Fetch no more; running jobs go on. There is no way back but a restart."""
        if not self._is_quiet:
            logger.info("quiet: fetching no more jobs")
        self._fetch_no_more()

    def _fetch_no_more(self) -> None:
        self._quieted.set()
        for scope in self._intakes.values():
            scope.cancel()

    def stop(self, timeout_s: float | None = None) -> None:
        """Fetch no more, give running jobs `timeout_s` seconds (default: the shutdown timeout), then cancel and requeue them.

        A later call can only bring the deadline nearer.
        """
        self._fetch_no_more()
        patience_s = self.shutdown_timeout_s if timeout_s is None else timeout_s
        deadline = trio.current_time() + patience_s
        if deadline < self._deadline:
            self._deadline = deadline
            logger.info("stopping: %s", self._what_is_waited_for(patience_s))
            for scope in self._jobs.values():
                scope.deadline = deadline
            for scope in self._farewell:
                scope.deadline = min(scope.deadline, deadline + GRACE_S + FLUSH_S)
            self._deadline_moved.set()
            self.told_to_stop.set()

    def _what_is_waited_for(self, patience_s: float) -> str:
        count = sum(1 for _ in self.running())
        what = f"{counted(count, 'running job')} may go on for {patience_s:.1f} s" if count else "no job is running"
        if patience_s and not self._connection.link.is_up:
            what += f"; Redis is away and gets {patience_s:.1f} s to come back, or until a second signal"
        return what

    def stats(self) -> Stats:
        """What it is doing now."""
        return Stats(
            running={queue: len(consumer.deliveries) for queue, consumer in self._consumers.items()},
            free={queue: consumer.free for queue, consumer in self._consumers.items()},
            settled=sum(self._settled.values()),
            left=dict(self._skipped.by_queue),
            quiet=self._is_quiet,
            stopping=self.stopping,
        )

    async def check_neighbours(self) -> None:
        """The look around before anything begins. Raises SharedQueue if we are strict and not alone on our queues."""
        await self._watch.check()

    async def run(self, runner: Runner, started: Callable[[], None]) -> None:
        """Work until stopped. To be run shielded: `stop` is how it ends.

        Raises Superseded, Refused at the start, or SharedQueue after it stopped for that.
        """
        self._skipped = runner.skipped
        async with trio.open_nursery() as upkeep:
            beat_s = self._presence.beat_interval_s
            reclaimer = Reclaimer(
                self._broker,
                self._connection.link,
                lease_s=beat_s * BEATS_PER_LEASE,
                beat_s=beat_s,
                broker_of=self._brokers.tagged,
            )
            heartbeat = self._heartbeat(reclaimer)
            await self._start(heartbeat, reclaimer)
            self._make_consumers(runner, Quarantine(self._broker, upkeep))
            for settler in self._settlers.values():
                upkeep.start_soon(self._mind, settler.run)
            upkeep.start_soon(self._abandon)
            hear = partial(self._hear, runner)
            hear(await retrying(partial(self._broker.due, 0)))  # what is paused must be known before the first fetch
            reporter = Reporter(self._broker, runner.metrics, beat_s)
            promoters = [Promoter(broker, hear=hear, is_idle=self._is_idle) for broker in self._brokers.in_use]
            chores: list[_Chore] = [
                heartbeat,
                *promoters,
                reclaimer,
                self._remote,
                self._watch,
                reporter,
                self._tending,
            ]
            chores += self._registrations
            upkeep.start_soon(self._do_chores, chores)
            started()
            async with trio.open_nursery() as queues:
                for queue in self._queues:
                    queues.start_soon(self._serve_queue, queue)
            self._drained.set()
            if await self._say_farewell():
                await reporter.report()
            upkeep.cancel_scope.cancel()
        logger.info("stopped: worker %s, %s settled", self.identity, counted(sum(self._settled.values()), "job"))
        if self.stopped_for is not None:
            raise self.stopped_for

    async def _mind(self, part: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a part of us. If it fails, all ends; whoever sees to it that the process ends must know of it before our nurseries are empty."""
        try:
            await part(*args)
        except Exception as error:
            self._stop_for(error, timeout_s=0.0)
            raise

    def _hear(self, runner: Runner, due: Due) -> None:
        """What people want of us, or of all."""
        for queue, consumer in self._consumers.items():
            consumer.pause(queue in due.paused_queues)
        runner.paused_classes = due.paused_classes
        for message in due.messages:
            self._remote.receive(message)

    async def _do_chores(self, chores: Iterable[_Chore]) -> None:
        with self._chores:
            async with trio.open_nursery() as nursery:
                for chore in chores:
                    nursery.start_soon(self._mind, chore.run)
                await self._quieted.wait()  # until then consumers compare between two fetches
                for consumer in self._consumers.values():
                    nursery.start_soon(self._mind, consumer.watch)

    async def _start(self, heartbeat: Heartbeat, reclaimer: Reclaimer) -> None:
        """Claim our process id, take back what our last life left in its lists, appear in Redis."""
        await retrying(self._presence.claim, final=(Superseded, Refused))
        process_id = self._broker.holder.process_id
        moved = 0
        for queue, broker in self._brokers.by_queue.items():
            moved += await retrying(partial(reclaimer.reclaim, process_id, broker.tagged(queue)))
        if moved:
            logger.warning("%s of our last life as %s put back into the queue", counted(moved, "job"), process_id)
        await retrying(self._tending.declare, final=(Superseded, Refused))
        await retrying(heartbeat.beat)

    def _heartbeat(self, reclaimer: Reclaimer) -> Heartbeat:
        def on_beat(beat: Beat) -> None:
            if beat.lease_gone:
                self._on_lease_gone(beat.lease_gone)
            self._tending.beat(something_is_held=beat.something_is_held)
            reclaimer.observe([orphan for orphan in beat.orphans if orphan[0] != self._broker.holder.process_id])
            if beat.signal:
                self.on_signal(beat.signal)

        return Heartbeat(
            self._broker,
            self._presence,
            self.identity,
            self._queues,
            running=self.running,
            is_quiet=lambda: self._is_quiet,
            settled=lambda: self._settled,
            on_beat=on_beat,
        )

    def _make_registrations(self) -> list[ResqueRegistration]:
        return [
            ResqueRegistration(broker, self.running, partial(self._speaks, broker), self._presence.beat_interval_s)
            for broker in dict.fromkeys(self._brokers.by_queue.values())
            if isinstance(broker, ResqueBroker)
        ]

    def _make_watch(self, *, strict: bool) -> NeighbourWatch:
        return NeighbourWatch(
            [
                each.neighbours([queue for queue, its in self._brokers.by_queue.items() if its is each])
                for each in self._brokers.in_use
            ],
            strict=strict,
            interval_s=self._presence.beat_interval_s * BEATS_PER_LEASE,
            on_shared=self._stop_for,
        )

    def _make_consumers(self, runner: Runner, quarantine: Quarantine) -> None:
        block_s = max(5.0, len(self._queues) / 2)  # many queues: the same number of commands in all
        for queue, concurrency in self._queues.items():
            broker = self._brokers.by_queue[queue]
            self._consumers[queue] = Consumer(
                queue,
                Slots(concurrency),
                broker=broker,
                open_intake=partial(open_intake, broker, self._url, block_s),
                runner=runner,
                settler=self._settlers[broker],
                quarantine=quarantine,
                on_lease_gone=self._on_lease_gone,
                permits=Permits(queue, broker, self._limits[queue]) if queue in self._limits else None,
            )

    async def _serve_queue(self, queue: str) -> None:
        with self._jobs[queue]:
            async with trio.open_nursery() as jobs:
                with self._intakes[queue]:
                    await self._mind(self._consumers[queue].run, jobs)
                # A quiet worker stays until it is stopped, however idle: who made it quiet may want to look at it first.
                await self.told_to_stop.wait()

    async def _abandon(self) -> None:
        """Put back what doesn't stop when it is cancelled; the worker's end does not wait for it."""
        while trio.current_time() < self._deadline + GRACE_S:
            self._deadline_moved = trio.Event() if self._deadline_moved.is_set() else self._deadline_moved
            with trio.move_on_at(self._deadline + GRACE_S):
                await self._deadline_moved.wait()
        stubborn = [delivery for consumer in self._consumers.values() for delivery in consumer.abandon()]
        for delivery in stubborn:
            logger.error(
                "job %s (%s) does not stop when cancelled: put back and left behind", delivery.jid, delivery.job_class
            )
        if stubborn and not self._drained.is_set():
            await self._say_farewell()

    async def _say_farewell(self) -> bool:
        """Write what is unwritten, move what is left in our lists back, and go; bounded, for Redis may be away. Whether it wasn't."""
        patience_at = max(self._deadline + GRACE_S, trio.current_time()) + FLUSH_S
        with trio.CancelScope(deadline=patience_at, shield=True) as flush:
            self._farewell = [flush]
            for settler in self._settlers.values():
                await settler.flushed()
        self._chores.cancel()  # a heartbeat after the farewell would bring us back
        # The flush's own deadline: `stop` may have brought it nearer meanwhile.
        with trio.CancelScope(deadline=flush.deadline + FLUSH_S, shield=True) as scope:
            self._farewell = [scope]
            left = await retrying(self._go)
            if left:
                logger.warning(
                    "jobs are left in %s: the next worker takes them over", counted(left, "in-progress list")
                )
        if scope.cancelled_caught:
            logger.error(
                "stopped without Redis: what was running stays in progress, until this worker is back or taken over"
            )
        self.gone.set()
        return not scope.cancelled_caught

    async def _go(self) -> int:
        for queue, broker in self._brokers.by_queue.items():
            if not any(not delivery.is_decided for delivery in self._consumers[queue].deliveries):
                await broker.release(queue)
        for registration in self._registrations:
            await registration.leave()
        return await self._presence.deregister()

    def _on_lease_gone(self, gone: LeaseGone) -> None:
        if gone is LeaseGone.FORGOTTEN:
            logger.warning("Redis lost its data: running jobs go on, but are in no list any more")
        else:
            logger.warning("our lease ran out while we were cut off; looking what other workers took over")
        for consumer in self._consumers.values():
            consumer.doubt(taken_over=gone is LeaseGone.EXPIRED)

    def _stop_for(self, reason: Exception, timeout_s: float | None = None) -> None:
        if self.stopped_for is None:
            logger.error("%s", reason)
            self.stopped_for = reason
        self.stop(timeout_s)

    def _on_settled(self, delivery: Delivery) -> None:
        self._settled[delivery.queue] += 1
        self._consumers[delivery.queue].settled(delivery)
        self._remote.settled(delivery)

    def _obey(self, signal: str) -> None:
        """What Sidekiq's tools ask of us."""
        if signal == "TSTP":
            self.quiet()
        elif signal == "TERM":
            self.stop()
        elif signal == "TTIN":
            logger.warning("running jobs:\n%s", Lines("\n".join(self.describe_jobs()) or "none"))

    def describe_jobs(self) -> Sequence[str]:
        """One paragraph for each running job: class, jid, age, and where it awaits."""
        from trioworkers.engine.task_tree import describe  # noqa: PLC0415 - seldom needed

        return [describe(delivery) for delivery in sorted(self.running(), key=lambda each: each.started_at)]
