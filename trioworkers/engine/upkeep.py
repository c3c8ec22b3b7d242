"""What serves all jobs of a worker at its Redis, and goes last: lease and record, promotion, reclaim, control messages, reports, writing outcomes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import trio

from trioworkers.broker.brokers import Brokers
from trioworkers.broker.contract import MAX_CRASHES_IN_COMPANY, Broker, Due, LeaseGone
from trioworkers.broker.holds.limits import Declared
from trioworkers.broker.holds.search import HoldsSearch
from trioworkers.broker.presence import BEATS_PER_LEASE, Beat, Presence
from trioworkers.broker.redis.connection import Connection, retrying
from trioworkers.broker.resque_broker import ResqueBroker
from trioworkers.engine.delivery import Delivery, by_queue
from trioworkers.engine.heartbeat import Heartbeat
from trioworkers.engine.history import History
from trioworkers.engine.job_metrics import JobMetrics, Reporter
from trioworkers.engine.maintenance import Promoter, Reclaimer
from trioworkers.engine.neighbour_watch import NeighbourWatch
from trioworkers.engine.periodic import Ticker
from trioworkers.engine.quarantine import MAX_CRASHES
from trioworkers.engine.remote_control import RemoteControl
from trioworkers.engine.reports import Reports
from trioworkers.engine.resque_registration import ResqueRegistration
from trioworkers.engine.search import Search
from trioworkers.engine.settler import Settler
from trioworkers.engine.tending import Tending
from trioworkers.errors import BrokerError, Refused, SharedQueue, Superseded
from trioworkers.wire.capsule import Capsule
from trioworkers.wire.hosts import HostState
from trioworkers.wire.own_record import Identity
from trioworkers.wire.periodic import Periodic
from trioworkers.wording import counted

logger = logging.getLogger("trioworkers")

SHOWN = 10
FEW_QUEUES = 2
"""So many are released without asking first whether there is anything to release."""
Chore = Callable[[], Awaitable[None]]


class _Part(Protocol):
    async def run(self) -> None: ...


class Upkeep:
    """One worker's, at one Redis. What it hears of is told to the functions that are given:

    `on_settled`: outcomes of deliveries of a queue are written. `on_lease_gone`: our lease was missing. `on_signal`: what Sidekiq's tools want.
    `on_due`: what people want, with every look for due jobs. `on_shared`: we are strict, and not alone on our queues.
    `on_killer`: a job was buried under which workers died.
    """

    def __init__(
        self,
        brokers: Brokers,
        connection: Connection,
        identity: Identity,
        queues: Mapping[str, int],
        *,
        strict: bool,
        limits: Declared,
        periodic: Sequence[Periodic],
        capsules: Sequence[Capsule],
        classes: Mapping[str, Sequence[str]],
        running: Callable[[], Iterable[Delivery]],
        is_quiet: Callable[[], bool],
        is_leaving: Callable[[], bool],
        on_settled: Callable[[str, Sequence[Delivery]], None],
        on_lease_gone: Callable[[LeaseGone], None],
        on_signal: Callable[[str], None],
        on_due: Callable[[Due], None],
        on_shared: Callable[[SharedQueue], None],
        on_killer: Callable[[str, bytes], None],
    ) -> None:
        self._brokers = brokers
        self._broker = broker = brokers.main
        self._running = running
        self._on_settled = on_settled
        self._on_lease_gone = on_lease_gone
        self._on_signal = on_signal
        self._on_due = on_due
        self.metrics = JobMetrics()
        self.settled = dict.fromkeys(queues, 0)
        """By queue, how many outcomes are written."""
        self._clock = trio.lowlevel.current_clock()
        self._presence = Presence(broker, str(identity), list(queues), brokers.by_queue)
        beat_s = self._presence.beat_interval_s
        lease_s = beat_s * BEATS_PER_LEASE
        self.settlers = {
            each: Settler(each, self._note_settled, is_leaving, self._free_slots) for each in brokers.in_use
        }
        self._heartbeat = Heartbeat(
            broker,
            self._presence,
            identity,
            queues,
            classes=classes,
            capsules=capsules,
            running=running,
            is_quiet=is_quiet,
            settled=lambda: self.settled,
            on_beat=self._hear_beat,
        )
        self.ticker = Ticker(broker, periodic)
        self._presence.schedule = self.ticker.schedule
        self._promoters = [
            Promoter(each, hear=self._hear_due, is_idle=self._is_idle, ticker=self.ticker if each is broker else None)
            for each in brokers.in_use
        ]
        self._reclaimer = Reclaimer(
            broker, connection.link, lease_s=lease_s, beat_s=beat_s, broker_of=brokers.tagged, on_killer=on_killer
        )
        self._control = RemoteControl(
            broker, running, {queue: each.dialect for queue, each in brokers.by_queue.items()}
        )
        neighbours = [each.neighbours(self._queues_of(each)) for each in brokers.in_use]
        self._watch = NeighbourWatch(
            neighbours,
            strict=strict,
            interval_s=min([lease_s, *(each.every_s for each in neighbours)]),
            on_shared=on_shared,
        )
        self._reporter = Reporter(broker, self.metrics, beat_s)
        self.tending = Tending(broker, limits)
        for each in brokers.in_use:
            each.on_moves = self.tending.move_on
        self.reports = Reports(lambda queue: self.settlers[brokers.by_queue[queue]])
        spoken = [each.keys for each in brokers.in_use]
        self.search = Search(broker, connection.link, HoldsSearch(connection, broker.keys, spoken))
        self._registrations = list(self._make_registrations(beat_s))

    @property
    def reclaimed(self) -> int:
        """How many jobs of dead workers we have put back."""
        return self._reclaimer.reclaimed

    @property
    def is_registered(self) -> bool:
        """Whether the last heartbeat reached Redis within a lease. May be asked from any thread."""
        lease_s = self._presence.beat_interval_s * BEATS_PER_LEASE
        return self._clock.current_time() - self._heartbeat.beaten_at < lease_s

    @property
    def hosts(self) -> Sequence[HostState]:
        """How the hosts do that jobs call, as of the last heartbeat."""
        return self._heartbeat.hosts

    def tell_of_hosts(self, hosts: Callable[[], Sequence[HostState] | None]) -> None:
        """With each heartbeat."""
        self._heartbeat.look_at_hosts = hosts

    def hurry(self) -> None:
        """See `Heartbeat.hurry`."""
        self._heartbeat.hurry()

    async def check_neighbours(self) -> None:
        """The check before anything begins. Raises SharedQueue if we are strict and not alone on our queues."""
        await self._watch.check()

    async def start(self) -> None:
        """Claim our process id, take back what our last life left in its lists, appear in Redis, hear what is paused.

        Raises Superseded, or Refused.
        """
        await retrying(self._presence.claim, final=(Superseded, Refused))
        process_id = self._broker.holder.process_id
        moved = 0
        for queue, broker in self._brokers.by_queue.items():
            moved += await retrying(partial(self._reclaimer.take_back, process_id, broker.tagged(queue)))
        if moved:
            logger.warning("%s of our previous process %s put back into the queue", counted(moved, "job"), process_id)
        await retrying(self.tending.declare, final=(Superseded, Refused))
        await retrying(self._heartbeat.beat)
        if self.ticker.schedule:
            await retrying(self.ticker.register, final=(Superseded, Refused))
        # What is paused must be known before the first fetch.
        self._hear_due(await retrying(partial(self._broker.due, 0)))

    @property
    def chores(self) -> list[Chore]:
        """What is to be run beside the jobs, until they have ended."""
        parts: list[_Part] = [
            self.tending,
            self.ticker,
            self._heartbeat,
            *self._promoters,
            self._reclaimer,
            self._control,
            self._watch,
            self._reporter,
            self.reports,
            self.search,
            History(self._broker),
        ]
        return [part.run for part in [*parts, *self._registrations]]

    async def flush(self) -> None:
        """Wait until what was handed in is written."""
        for settler in self.settlers.values():
            await settler.flushed()

    async def _times(self, to_blame: Sequence[str], suspects: Collection[str]) -> int:
        """How often a charge counts: for the third crash of one who was alone in quarantine so often that it is buried."""
        if len(to_blame) == 1 and suspects == set(to_blame):
            crashes = (await self._broker.crashes(to_blame)).get(to_blame[0], 0)
            if crashes + 1 >= MAX_CRASHES:
                return MAX_CRASHES_IN_COMPANY
        return 1

    async def charge(self, jids: Sequence[str]) -> None:
        """Charge jobs with our end: those in quarantine among them, if there are such, else all. If Redis is away, who reclaims does it."""
        with suppress(BrokerError):
            started = await self._broker.started(self._broker.holder.process_id) or {}
            suspects = {jid for jid, alone in started.items() if alone}
            to_blame = [jid for jid in jids if jid in suspects] or jids
            logger.error("%s charged with this end: %s", counted(len(to_blame), "job"), ", ".join(to_blame[:SHOWN]))
            await self._broker.charge(to_blame, await self._times(to_blame, suspects))

    async def leave(self, has_running: Callable[[str], bool]) -> None:
        """Move what is left in our lists back, and deregister. `has_running`: whether a queue's list still has jobs that run."""
        left = await retrying(partial(self._leave, has_running))
        if left:
            logger.warning("jobs are left in %s: the next worker takes them over", counted(left, "in-progress list"))

    async def _leave(self, has_running: Callable[[str], bool]) -> int:
        for queue in await self._left_in(each for each in self._brokers.by_queue if not has_running(each)):
            await self._brokers.by_queue[queue].release(queue)
        for registration in self._registrations:
            await registration.leave()
        return await self._presence.deregister()

    async def _left_in(self, queues: Iterable[str]) -> list[str]:
        """Those of them in whose lists something is left, or beside them: of many queues most are empty, and the time is short."""
        by_queue, asked = self._brokers.by_queue, list(queues)
        if len(asked) <= FEW_QUEUES:
            return asked
        lists = [by_queue[queue].in_progress(queue) for queue in asked]
        holds = [by_queue[queue].holds(queue) for queue in asked]
        lengths = await self._broker.lengths([*lists, *holds])
        return [queue for n, queue in enumerate(asked) if lengths[n] or lengths[n + len(asked)]]

    async def report(self) -> None:
        """Write what the metrics have counted since the last report."""
        await self._reporter.report()

    # ── what it hears of ───────────────────────────────────────────────────────────────────────────────────────────────

    def _note_settled(self, deliveries: Sequence[Delivery]) -> None:
        for queue, its in by_queue(deliveries).items():
            self.settled[queue] += len(its)
            self._on_settled(queue, its)
        self._control.settled(deliveries)

    def _free_slots(self, deliveries: Sequence[Delivery]) -> None:
        for queue, its in by_queue(deliveries).items():
            self._on_settled(queue, its)
        self._control.settled(deliveries)

    def _hear_beat(self, beat: Beat) -> None:
        if beat.lease_gone:
            self._on_lease_gone(beat.lease_gone)
        self.tending.beat(something_is_held=beat.something_is_held)
        self.ticker.beat(is_unknown=beat.schedule_is_unknown)
        self.search.beat(something_is_held=beat.locks_are_held)
        self._reclaimer.observe(
            [orphan for orphan in beat.orphans if orphan[0] != self._broker.holder.process_id], beat.patience_s
        )
        if beat.signal:
            self._on_signal(beat.signal)

    def _hear_due(self, due: Due) -> None:
        self._on_due(due)
        for message in due.messages:
            self._control.receive(message)

    def _is_idle(self) -> bool:
        return not any(self._running())

    # ── assembly ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _queues_of(self, broker: Broker) -> list[str]:
        return [queue for queue, its in self._brokers.by_queue.items() if its is broker]

    def _make_registrations(self, interval_s: float) -> Iterator[ResqueRegistration]:
        for broker in dict.fromkeys(self._brokers.by_queue.values()):
            if isinstance(broker, ResqueBroker):
                yield ResqueRegistration(broker, self._running, self._queues_of(broker).__contains__, interval_s)
