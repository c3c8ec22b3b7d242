"""What go-workers2 has besides: heartbeat records, by which its processes take over each other's in-progress lists.

Each of them reads every record of the set `processes`, every few seconds; one that is missing, or lacks what go-workers2 writes, ends the
heartbeats of the reader for good, and its fellows then take its running jobs from it. So our record has the fields that it wants, and
doesn't expire by itself; fellows of ours have it expire when we died. And whoever takes an in-progress list over from a process takes it
out of that process's record, too: else the list, ours by then, would be emptied when the record is old.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.neighbours import RECORD_S, Neighbour, Neighbours, SidekiqNeighbours
from trioworkers.broker.redis.scripts import script
from trioworkers.wire.go_heartbeat import lists_in, without
from trioworkers.wire.keys import Keys
from trioworkers.wire.own_record import OUR_LABELS

logger = logging.getLogger("trioworkers")

GO_RECORDS = script(__file__, "go_records", keys=("processes",), args=("record_prefix",))
GO_DISOWN = script(__file__, "go_disown", keys=("record",), args=("heartbeats_before", "heartbeats_after"))
GO_PRUNE = script(
    __file__, "go_prune", keys=("processes",), args=("record_prefix", "our_label", "stale_s", "others_stale_s")
)

LOOK_EVERY_S = 5.0
"""A go-workers without records shows by its list alone, which has to be seen twice."""

OTHERS_STALE_S = 3600.0
"""So old is a go-workers2's record when we remove it, if none of its fellows does: they write it by clocks of their own."""


class GoWorkersBroker(RedisBroker):
    """The moves of go-workers' dialect."""

    async def on_claimed(self, queues: Collection[str]) -> None:
        """See `RedisBroker.on_claimed`. What go-workers2's records say of our lists, which were its own until now, goes."""
        ours = {self._name(queue) for queue in queues}
        for identity, heartbeats in await self._records():
            after, found = heartbeats, ours.intersection(lists_in(heartbeats))
            for name in found:
                after = without(after, name)
            if found and await self.connection.run(GO_DISOWN, [self._record_key(identity)], [heartbeats, after]):
                text = "took over from go-workers2 %s: %s"
                logger.info(text, identity.decode(errors="replace"), ", ".join(sorted(found)))

    def neighbours(self, queues: Collection[str]) -> Neighbours:
        """See `RedisBroker.neighbours`."""
        return GoWorkersNeighbours(self, queues)

    async def _records(self) -> list[tuple[bytes, bytes]]:
        keys = Keys(self.keys.namespace)  # go-workers' own, wherever our record lies
        found: list[tuple[bytes, bytes]] = await self.connection.run(GO_RECORDS, [keys.processes], [keys.process("")])
        return found

    def _record_key(self, identity: bytes) -> str:
        return Keys(self.keys.namespace).process(identity.decode(errors="surrogateescape"))

    def _name(self, queue: str) -> str:
        return f"{queue}:{self.holder.process_id}:inprogress"


class GoWorkersNeighbours(SidekiqNeighbours):
    """`Neighbours` on go-workers' queues."""

    every_s = LOOK_EVERY_S
    says_of_heartbeats = False

    def __init__(self, broker: GoWorkersBroker, queues: Collection[str]) -> None:
        super().__init__(broker.connection, broker.keys, queues)
        self._broker = broker

    async def check(self, steps: int = 1) -> dict[str, Neighbour]:
        """See `Neighbours.check`. Removes the records of fellows that died, besides."""
        if self._broker.record_lasts:
            keys, args = self._keys, [OUR_LABELS, RECORD_S, OTHERS_STALE_S]
            await self._connection.run(GO_PRUNE, [keys.processes], [keys.process(""), *args])
        return await super().check(steps)
