"""One worker: what can be asked of it, what it is told, and what it does about that. How it runs is in `engine/tree.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import trio

from trioworkers.broker.brokers import Brokers
from trioworkers.broker.contract import Due, LeaseGone
from trioworkers.broker.emergency import Lists
from trioworkers.broker.redis.connection import Connection
from trioworkers.engine import told
from trioworkers.engine.delivery import RUNNING, SETTLING, Delivery
from trioworkers.engine.queues import Declared, Queues
from trioworkers.engine.runner import Runner
from trioworkers.engine.shutdown import Shutdown
from trioworkers.engine.tree import Tree
from trioworkers.engine.upkeep import Upkeep
from trioworkers.engine.within_limits import WithinLimits
from trioworkers.errors import TrioworkersError
from trioworkers.health import Health, Pulse
from trioworkers.jobs.limits import declared_specs
from trioworkers.jobs.observers import Observer
from trioworkers.printable import Lines
from trioworkers.wire.hosts import HostState
from trioworkers.wire.own_record import Identity
from trioworkers.wire.periodic import Periodic
from trioworkers.wording import counted

if TYPE_CHECKING:
    from trioworkers.broker.shard_outbox import ShardOutbox

logger = logging.getLogger("trioworkers")


@attrs.frozen
class Stats:
    """What a worker is doing, by queue: jobs running (or waiting to be settled), slots free.

    `settled`: deliveries whose outcome is written. `left`: by queue, how often a job was left for others because its class has no handler here.
    """

    running: Mapping[str, int]
    free: Mapping[str, int]
    settled: int
    left: Mapping[str, int]
    quiet: bool
    stopping: bool


class Worker:
    """One running worker; `nursery.start(app.serve)` returns it. Its methods may be called from any task of its Trio program."""

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
        classes: Mapping[str, Sequence[str]],
        declared: Declared,
        periodic: Sequence[Periodic] = (),
    ) -> None:
        self.identity = identity
        self._brokers = brokers
        self._connection = connection
        self._url = url
        self._queues = Queues(brokers, url, declared)
        self._served = self._queues.served
        self._runner: Runner | None = None
        self._shutdown = Shutdown(shutdown_timeout_s, self.running, self._put_back)
        self._token: trio.lowlevel.TrioToken | None = None
        self.observers: Sequence[Observer] = ()
        """Who watches it."""
        self._upkeep = Upkeep(
            brokers,
            connection,
            identity,
            queues,
            strict=strict,
            limits=declared_specs(declared.limits.values(), declared.queue_limits.values()),
            periodic=periodic,
            classes=classes,
            capsules=declared.capsules,
            running=self.running,
            is_quiet=self._shutdown.quieted.is_set,
            is_leaving=lambda: trio.current_time() >= self.deadline,
            on_settled=lambda queue, deliveries: self._served[queue].settled(deliveries),
            on_lease_gone=self._on_lease_gone,
            on_signal=self._obey,
            on_due=self._hear,
            on_shared=self.stop_for,
            on_killer=self._on_killer,
        )

        self.within = WithinLimits(
            brokers.main,
            brokers.by_queue.__getitem__,
            self.running,
            declared_specs(declared.limits.values()),
            declare=self._upkeep.tending.add,
            on_use=lambda queue: self._served[queue].note_permits(),
        )
        """The limits around parts of its jobs."""
        self._tree = Tree(self._queues, self._upkeep, self._shutdown, self.within, self.stop_for)

    def __repr__(self) -> str:
        state = "stopping" if self.stopping else "quiet" if self._shutdown.quieted.is_set() else "running"
        return f"<Worker {self.identity}: {state}, {sum(1 for _ in self.running())} jobs running>"

    # ── what it is doing ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._shutdown.told.is_set()

    @property
    def told_to_stop(self) -> trio.Event:
        """Set when it is."""
        return self._shutdown.told

    @property
    def quieted(self) -> trio.Event:
        """Set when it fetches no more."""
        return self._shutdown.quieted

    @property
    def stopped_for(self) -> Exception | None:
        """Why it stopped, if it did so by itself: `run` raises it, unless jobs that won't stop keep it from ending."""
        return self._shutdown.reason

    @property
    def is_registered(self) -> bool:
        """Whether Redis has heard of it within its lease."""
        return self._upkeep.is_registered

    @property
    def shutdown_timeout_s(self) -> float:
        """What running jobs get to finish."""
        return self._shutdown.timeout_s

    @property
    def deadline(self) -> float:
        """When running jobs are cancelled, by `trio.current_time()`; inf while the worker isn't stopping."""
        return self._shutdown.deadline

    @property
    def gone(self) -> trio.Event:
        """Set when it has departed, even if jobs that won't stop still run: all is safe in Redis, or Redis was away for too long."""
        return self._shutdown.gone

    @property
    def lists(self) -> Sequence[Lists]:
        """Where its in-progress lists are, at each Redis, for whoever has to put its jobs back when it can't."""
        broker = self._brokers.main
        dialects = {queue: each.dialect for queue, each in self._brokers.by_queue.items()}
        return [Lists(self._url, broker.keys, broker.holder, str(self.identity), dialects)]

    def send_elsewhere(self, outbox: ShardOutbox) -> None:
        """Of a worker with several shards: what its jobs at this one send into others goes there."""
        for broker in self._brokers.in_use:
            broker.outbox = outbox

    def running(self) -> Iterable[Delivery]:
        """What takes a slot: jobs that run or are about to, and those that have ended and whose outcome isn't written yet."""
        return self._queues.running()

    def stats(self) -> Stats:
        """What it is doing now."""
        return Stats(
            running={queue: len(served.deliveries) for queue, served in self._served.items()},
            free={queue: served.free for queue, served in self._served.items()},
            settled=sum(self._upkeep.settled.values()),
            left={} if self._runner is None else dict(self._runner.skipped.by_queue),
            quiet=self._shutdown.quieted.is_set(),
            stopping=self.stopping,
        )

    def pulse(self) -> Pulse:
        """How it is, as far as it knows itself."""
        stats = self.stats()
        busy = sum(stats.running.values())
        return Pulse(self.is_registered, stats.quiet, stats.stopping, busy, self.shutdown_timeout_s)

    def health(self) -> Health:
        """What `--health` answers: whether it is live, ready, drained, and why. May be called from any thread. If the event loop is blocked, the call takes a second."""
        return told.health(self.pulse(), self._token, self._connection.link.heard_at)

    def metrics(self) -> bytes:
        """Its metrics, as Prometheus reads them. Make `Metrics(app)` (extra `metrics`) before the worker starts; else this raises ConfigurationError.

        May be called from any thread. From another thread it also says how long the event loop takes to answer.
        """
        return told.metrics(self.observers)

    @property
    def settle_groups(self) -> int:
        """In how many calls outcomes were written: `stats().settled` by this is how many went together."""
        return sum(settler.groups for settler in self._upkeep.settlers.values())

    @property
    def reclaimed(self) -> int:
        """How many jobs of dead workers it has put back."""
        return self._upkeep.reclaimed

    @property
    def hosts(self) -> Sequence[HostState]:
        """How the hosts do that its jobs call over the shared client, as of the last heartbeat. From any thread."""
        return self._upkeep.hosts

    def tell_of_hosts(self, hosts: Callable[[], Sequence[HostState] | None]) -> None:
        """From now on its heartbeat tells of them, once there is anything to tell."""
        self._upkeep.tell_of_hosts(hosts)

    def describe_jobs(self) -> Sequence[str]:
        """One paragraph for each running job: class, jid, age, and where it awaits."""
        from trioworkers.engine.task_tree import describe  # noqa: PLC0415 - seldom needed

        return [describe(delivery) for delivery in sorted(self.running(), key=lambda each: each.started_at)]

    # ── what it is told ────────────────────────────────────────────────────────────────────────────────────────────────

    def quiet(self) -> None:
        """Fetch no more; running jobs go on. Only a restart makes it fetch again."""
        if not self._shutdown.quieted.is_set():
            logger.info("quiet: fetching no more jobs")
        self._shutdown.quiet()

    def stop(self, timeout_s: float | None = None) -> None:
        """Fetch no more, give running jobs `timeout_s` seconds (default: the shutdown timeout), then cancel and requeue them.

        A later call can only bring the deadline nearer.
        """
        patience_s = self._shutdown.stop(timeout_s)
        if patience_s is not None:
            logger.info("stopping: %s", self._what_is_waited_for(patience_s))

    def _what_is_waited_for(self, patience_s: float) -> str:
        count = sum(1 for _ in self.running())
        what = f"{counted(count, 'running job')} may go on for {patience_s:.1f} s" if count else "no job is running"
        if patience_s and not self._connection.link.is_up:
            what += f"; Redis is away and gets {patience_s:.1f} s to come back, or until a second signal"
        return what

    def stop_for(self, reason: Exception, timeout_s: float | None = None) -> None:
        """Stop by itself: `run` raises `reason` then. If that is none of Redis's and of people's, jobs are charged with it."""
        if self._shutdown.reason is None:
            logger.error("%s", reason)
            self._shutdown.reason = reason
            if not isinstance(reason, TrioworkersError):
                self.blame_jobs()
        self.stop(timeout_s)

    def blame_jobs(self, senders: Collection[Delivery] = ()) -> None:
        """It ends for a reason that is none of Redis's and of people's: charge what runs now, or has ended and isn't settled, as it may have been the doing of one of them.

        Else a job that ends its worker in good order, time and again, would never get to its third crash. `senders`: it was these, as far as that is known.
        """
        blamed = (
            delivery
            for delivery in self.running()
            if delivery.state in (RUNNING, SETTLING) and (not senders or delivery in senders)
        )
        self._tree.to_blame = [(delivery, delivery.state) for delivery in blamed]

    @property
    def blames_jobs(self) -> bool:
        """Whether its jobs are to be charged with its end, and aren't yet."""
        return bool(self._tree.to_blame)

    def _obey(self, signal: str) -> None:
        """What Sidekiq's tools ask of us."""
        if signal == "TSTP":
            self.quiet()
        elif signal == "TERM":
            self.stop()
        elif signal == "TTIN":
            logger.warning("running jobs:\n%s", Lines("\n".join(self.describe_jobs()) or "none"))

    def _hear(self, due: Due) -> None:
        for queue, served in self._served.items():
            served.pause(queue in due.paused_queues)
        if self._runner is not None:
            self._runner.paused_classes = due.paused_classes

    def _on_killer(self, queue: str, payload: bytes) -> None:
        if self._runner is not None:
            self._runner.killed(queue, payload)

    def _on_lease_gone(self, gone: LeaseGone) -> None:
        if gone is LeaseGone.FORGOTTEN:
            logger.warning("Redis lost its data: running jobs go on, but are in no list any more")
        else:
            logger.warning("our lease ran out while we were cut off; checking which jobs other workers took over")
        self._upkeep.hurry()
        for served in self._served.values():
            served.doubt(taken_over=gone is LeaseGone.EXPIRED)

    # ── what it does ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def check_neighbours(self) -> None:
        """The look around before anything begins. Raises SharedQueue if we are strict and not alone on our queues."""
        await self._upkeep.check_neighbours()

    async def run(self, runner: Runner, started: Callable[[], None]) -> None:
        """Work until stopped. To be run shielded: `stop` is how it ends.

        Raises what it stopped for, if it did so by itself (`stopped_for`): Superseded and SharedQueue, say; at the start Refused.
        """
        self._runner = runner
        self._token = trio.lowlevel.current_trio_token()
        runner.metrics = self._upkeep.metrics
        runner.report = self._upkeep.reports.add
        self._queues.open(runner, self._upkeep.settlers, self._upkeep.tending, self._on_lease_gone)
        await self._tree.run(runner, started, self.stop)
        settled = sum(self._upkeep.settled.values())
        logger.info("stopped: worker %s, %s settled", self.identity, counted(settled, "job"))
        if self.stopped_for is not None:
            raise self.stopped_for

    def _put_back(self, delivery: Delivery) -> None:
        self._served[delivery.queue].put_back(delivery)
