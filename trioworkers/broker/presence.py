"""Leases and records: claim a process id, beat, deregister; and who has not been heard of.

A lease is a key that expires by Redis's clock. Two workers can't hold one process id; who is refused may look whether the
holder is certainly dead (same machine, process gone), or wait whether it renews its lease: a living one does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import attrs
import trio

from trioworkers.broker.contract import LeaseGone
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import Superseded
from trioworkers.identity import is_certainly_dead
from trioworkers.wire.own_record import Record, decode_lease, running_fields
from trioworkers.wire.packing import pack
from trioworkers.zones import zone_data

logger = logging.getLogger("trioworkers")

BEAT = script(
    __file__,
    "beat",
    keys=(
        "lease",
        "registry",
        "processes",
        "our_record",
        "signals",
        "work",
        "workers",
        "limits",
        "repairs",
        "unread",
        "moving",
        "unique",
        "successors",
        "batches",
        "drained",
        "outage",
        "suspects",
        "*cron_declared",
    ),
    args=("ours", "lease_ms", "identity", "packed", "lease_prefix", "lasts", "shown", "outage_ms", "schedule"),
)
CLAIM = script(
    __file__, "claim", keys=("lease", "registry", "drained", "*last_settles"), args=("ours", "lease_ms", "gone_holder")
)
DEREGISTER = script(
    __file__,
    "deregister",
    keys=(
        *("lease", "registry", "processes", "our_record", "signals", "last_settle", "suspects", "work", "workers"),
        "*lists",
    ),
    args=("ours", "identity", "lasts", "*admissions"),
)

BEATS_PER_LEASE = 6
LOOKS_PER_BEAT = 5
"""While another worker has our process id, so often do we look whether it lives."""

MAX_PATIENCE_S = 300.0
"""After an outage others have as long to come back as it took, but no longer than this: jobs of workers that did die in it wait meanwhile."""


def _named(holder: str) -> str:
    known = decode_lease(holder)
    return f"process {known.pid} on {known.hostname}" if known else "another worker"


@attrs.frozen
class Beat:
    """What a heartbeat brings back. `orphans`: (process id, queue with its dialect tag) of registered lists whose worker has no lease.

    `patience_s`: how long who was missing after an outage isn't taken for dead yet. `something_is_held`: there are limits, or effects to be repaired; `locks_are_held`: by unique jobs.
    `schedule_is_unknown`: Redis didn't know which periodic jobs we declare.
    """

    lease_gone: LeaseGone
    redis_now_s: float
    signal: str
    orphans: list[tuple[str, str]]
    something_is_held: bool = False
    locks_are_held: bool = False
    schedule_is_unknown: bool = False
    patience_s: float = 0.0


class Presence:
    """A worker's presence in Redis. `brokers`: of those queues that are not `broker`'s."""

    def __init__(
        self,
        broker: RedisBroker,
        identity: str,
        queues: Sequence[str],
        brokers: Mapping[str, RedisBroker] | None = None,
    ) -> None:
        self._broker = broker
        self._identity = identity
        self.schedule = ""
        """What stands for the periodic jobs that we declare, if there are any."""
        self._told_outages = broker.connection.link.outages
        self._shown = False
        self._is_new = True
        self._queues = [((brokers or {}).get(queue, broker), queue) for queue in queues]

    @property
    def beat_interval_s(self) -> float:
        """Seconds between two heartbeats: a lease survives several lost ones."""
        return self._broker.holder.lease_ms / 1000 / BEATS_PER_LEASE

    async def claim(self) -> None:
        """Take our process id, and what others say of its lists. See `_claim_lease`."""
        await self._claim_lease()
        for broker in dict.fromkeys(own for own, _ in self._queues):
            await broker.on_claimed([queue for own, queue in self._queues if own is broker])

    async def _claim_lease(self) -> None:
        """Take our process id. At once if it is free or its holder certainly dead; else as soon as the holder proves silent.

        Raises Superseded if it is alive: it renewed its lease while we watched.
        """
        holder, left_ms = await self._try_claim("")
        if holder == self._broker.holder.lease:
            return
        known = decode_lease(holder)
        if known is not None and is_certainly_dead(known):
            holder, left_ms = await self._try_claim(holder)
        if holder != self._broker.holder.lease:
            await self._outwatch(holder, left_ms)

    async def _outwatch(self, holder: str, left_ms: int) -> None:
        """Take the id when its holder lets two and a half beats pass. Raises Superseded as soon as one comes."""
        process_id, who = self._broker.holder.process_id, _named(holder)
        watch_s = self.beat_interval_s * 2.5
        text = "process id %r is held by %s: waiting to see whether that worker is alive, for up to %.0f s"
        logger.info(text, process_id, who, watch_s)
        began_at = trio.current_time()
        while trio.current_time() < began_at + watch_s:
            looked_at, watched, before_ms = trio.current_time(), holder, left_ms
            await trio.sleep(self.beat_interval_s / LOOKS_PER_BEAT)
            slept_s = trio.current_time() - looked_at
            holder, left_ms = await self._try_claim("")
            if holder == self._broker.holder.lease:
                return
            # What is left of a lease that nobody renews grows less as time goes by.
            if holder != watched or before_ms - left_ms < slept_s * 500:
                raise Superseded(f"process id {process_id!r} is in use by {_named(holder)}")
        holder, _ = await self._try_claim(holder)
        if holder != self._broker.holder.lease:
            raise Superseded(f"process id {process_id!r} is in use by {_named(holder)}")

    async def _try_claim(self, known_dead: str) -> tuple[str, int]:
        broker = self._broker
        args = [broker.holder.lease, broker.holder.lease_ms, known_dead.encode(errors="surrogateescape")]
        process_id = broker.holder.process_id
        groups = sorted({own.keys.last_settle(process_id) for own in (broker, *(own for own, _ in self._queues))})
        keys = broker.keys
        names = [keys.lease(process_id), keys.in_progress_lists, keys.drained(process_id), *groups]
        asked_at = trio.current_time()
        holder, left_ms = await broker.connection.run(CLAIM, names, args)
        if holder == broker.holder.lease.encode():
            broker.holder.renewed_at = asked_at
        return holder.decode(errors="surrogateescape"), left_ms

    async def beat(self, record: Record, running: Sequence[tuple[str, bytes]]) -> Beat:
        """Renew the lease and write the record. Raises Superseded if another worker has our process id."""
        broker, keys = self._broker, self._broker.keys
        process_id = broker.holder.process_id
        lists = [item for own, q in self._queues for item in (own.in_progress(q), own.registry_entry(q))]
        names = [keys.lease(process_id), keys.in_progress_lists, keys.processes, keys.process(self._identity)]
        names += [
            keys.signals(self._identity),
            *keys.running(self._identity),
            keys.limits,
            keys.repairs,
            keys.unread,
            keys.moving,
            keys.unique,
            keys.next,
            keys.batches,
        ]
        names += [keys.drained(process_id), keys.outage, keys.suspects(process_id)]
        names += [*([keys.cron_declared] if self.schedule else [])]
        body = pack((lists, record.fields(self._more_fields(record.beat_s)), running_fields(running)))
        args = [broker.holder.lease, broker.holder.lease_ms, self._identity, body, keys.lease("")]
        link = broker.connection.link
        was_up, outages = link.is_up, link.outages
        args += [int(broker.record_lasts), int(self._shown), self._outage_ms(), self.schedule]
        self._shown = self._shown or bool(running)
        asked_at = trio.current_time()
        with broker.too_slow.watching(BEAT.name, len(body)):
            answer = await broker.connection.run(BEAT, names, args)
        gone, seconds, microseconds, signal, held, patience_ms, *orphans = answer
        broker.holder.renewed_at = asked_at
        self._shown = bool(running)
        self._is_new = False
        if was_up:  # else how long it took is known from now on
            self._told_outages = outages
        names_of = [name.decode(errors="replace") for name in orphans]
        redis_now_s = seconds + microseconds / 1_000_000
        return Beat(
            LeaseGone(gone),
            redis_now_s,
            signal.decode(errors="replace"),
            list(zip(names_of[::2], names_of[1::2], strict=True)),
            something_is_held=bool(held & 1),
            locks_are_held=bool(held & 2),
            schedule_is_unknown=bool(held & 4),
            patience_s=patience_ms / 1000,
        )

    def _outage_ms(self) -> int:
        """How long the outage was from which this is the first heartbeat, if leases may have run out in it; else 0. -1 if it is our first one."""
        if self._is_new:
            return -1
        link = self._broker.connection.link
        is_news = link.outages != self._told_outages and link.is_up
        long = is_news and link.last_outage_s * 1000 >= self._broker.holder.lease_ms
        return int(min(link.last_outage_s, MAX_PATIENCE_S) * 1000) if long else 0

    def _more_fields(self, now_s: float) -> dict[str, str]:
        """What the families of our queues that keep their records where ours is want to see in it."""
        found = self._broker.dialect.record_fields(now_s)
        if self.schedule:
            found = found | {"tw_zones": zone_data()}
        for own, _ in self._queues:
            if own.shares_processes:
                found = found | own.dialect.record_fields(now_s)
        return found

    async def deregister(self) -> int:
        """Lease and record go. Returns how many of our lists still hold something (they stay registered)."""
        broker, keys = self._broker, self._broker.keys
        process_id = broker.holder.process_id
        names = [keys.lease(process_id), keys.in_progress_lists, keys.processes]
        names += [keys.process(self._identity), keys.signals(self._identity)]
        names += [keys.last_settle(process_id), keys.suspects(process_id), *keys.running(self._identity)]
        names += [own.in_progress(queue) for own, queue in self._queues]
        admissions = [own.keys.last_admission(queue, process_id) for own, queue in self._queues]
        admissions += [own.keys.last_claim(queue, process_id) for own, queue in self._queues]
        left: int = await broker.connection.run(
            DEREGISTER, names, [broker.holder.lease, self._identity, int(broker.record_lasts), *admissions]
        )
        return left
