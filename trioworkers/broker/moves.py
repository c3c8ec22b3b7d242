"""RedisBroker: each method is one atomic move of payloads, or one look at them. Nothing with a Redis type leaves this room.

Payloads come from Redis as bytes and go back as the same bytes; `engine/` decides what becomes of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from trioworkers.broker.holds import batches, limits, locks, ticks
from trioworkers.broker.holds.within import Granted, Wants, within
from trioworkers.broker.neighbours import Neighbours, SidekiqNeighbours
from trioworkers.broker.promote import Promotes
from trioworkers.broker.reclaim import Reclaims
from trioworkers.broker.settle import Settles
from trioworkers.errors import BadJob, ConfigurationError


class RedisBroker(Settles, Promotes, Reclaims):
    """One worker's moves between places of one dialect."""

    record_lasts = False
    """Whether our process record is for go-workers2's eyes, too (see `goworkers_broker.py`): it has its fields, and no expiry."""

    @property
    def shares_processes(self) -> bool:
        """Whether this family keeps the records of its processes where ours is."""
        return self.keys.namespace == self.keys.worker_namespace

    async def on_claimed(self, queues: Collection[str]) -> None:
        """Our process id was claimed, with the lists of these queues; nothing is fetched yet. Raises BrokerError."""

    def neighbours(self, queues: Collection[str]) -> Neighbours:
        """Who else fetches from these queues of ours."""
        found = SidekiqNeighbours(self.connection, self.keys, queues)
        found.says_of_heartbeats = not self.record_lasts
        return found

    async def admit(
        self, queue: str, number: int, declared: limits.Declared, batch: Sequence[limits.Candidate]
    ) -> list[int | str]:
        """See `limits.admit`."""
        keys, holder = self.keys, self.holder
        at = limits.AdmissionKeys(
            self._lease_key,
            holder.lease,
            self.in_progress(queue),
            self.holds(queue),
            keys.last_admission(queue, holder.process_id),
            keys.own,
            queue,
            keys.queue(queue),
            self.dialect.put_back_with,
        )
        return await limits.admit(self.connection, at, number, declared, batch)

    async def claim(self, queue: str, number: int, batch: Sequence[locks.Claim]) -> list[locks.Answer]:
        """See `locks.claim`."""
        keys, holder = self.keys, self.holder
        at = locks.ClaimKeys(
            self._lease_key,
            holder.lease,
            self.in_progress(queue),
            keys.last_claim(queue, holder.process_id),
            keys.own,
            queue,
            keys.queue(queue),
            self.dialect.pushed_with,
            keys.queues,
        )
        return await locks.claim(self.connection, at, number, batch)

    async def move_on(self) -> int:
        """See `batches.move_on`."""
        return await batches.move_on(self.connection, self.keys)

    async def cancelled(self, wanted: Sequence[str]) -> set[str]:
        """See `batches.cancelled`."""
        return await batches.cancelled(self.connection, self.keys, wanted)

    async def take_ticks(self, takes: Sequence[ticks.Take]) -> list[ticks.Taken]:
        """See `ticks.take_ticks`. What can't be sent is an error of that one alone."""
        packed: dict[int, tuple[object, ...]] = {}
        answers = [ticks.Taken("error")] * len(takes)
        for number, take in enumerate(takes):
            try:
                packed[number] = ticks.packed_take(take, self.keys, self.guard, self.clock.now_s())
            except (BadJob, ConfigurationError) as error:
                answers[number] = ticks.Taken("error", str(error))
        if packed:
            found = await ticks.take_ticks(self.connection, self.keys, [*packed.values()])
            for number, taken in zip(packed, found, strict=True):
                answers[number] = taken
        return answers

    async def register_cron(
        self, schedule: str, declared: Sequence[ticks.Declaration], since_s: float, *, sweep: bool = False
    ) -> ticks.Registered:
        """See `ticks.register`."""
        who = ticks.Registrar(self._lease_key, self.holder.lease, self.keys, schedule)
        return await ticks.register(self.connection, who, declared, since_s, sweep=sweep)

    async def tend(self, round_: limits.Round) -> limits.Tended:
        """See `limits.tend`."""
        return await limits.tend(self.connection, self.keys, round_)

    async def within(self, wants: Wants) -> Granted:
        """See `within.within`."""
        return await within(self.connection, self._lease_key, self.holder.lease, self.keys.own, wants)
