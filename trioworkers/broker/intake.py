"""One queue's fetching side: a connection of its own, which blocks while the queue is empty.

The connection is an *epoch*: after any error the consumer leaves the block, waits a moment and opens a new one. That cures
half-open sockets and anything that coredis may have lost track of, all at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trioworkers.broker.contract import Fetched, LeaseGone
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import REPLY_TIMEOUT_S, Connection, connect
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import Unavailable
from trioworkers.ticks import next_tick

FETCH = script(
    __file__,
    "fetch",
    keys=("queue", "list", "registry", "lease", "crashes", "drained"),
    args=("limit", "max_bytes", "ours", "lease_ms", "entry", "fetch_end"),
    preludes=("pages",),
)

SHORTEST_BLOCK_S = 0.05
"""Zero would be for ever."""
UNBLOCK_PATIENCE_S = 1.0


@asynccontextmanager
async def open_intake(broker: RedisBroker, url: str, block_s: float, queue: str) -> AsyncIterator[RedisIntake]:
    """An intake for `queue` that blocks until the next multiple of `block_s` seconds; closed at the end of the block."""
    async with connect(url, broker.connection.link) as connection:
        yield RedisIntake(broker, connection, queue, block_s)


class RedisIntake:
    """Fetches for one queue. See `open_intake`."""

    def __init__(self, broker: RedisBroker, connection: Connection, queue: str, block_s: float) -> None:
        self._broker = broker
        self._connection = connection
        self._block_s = block_s
        self._queue = broker.keys.queue(queue)
        self._list = broker.in_progress(queue)
        # Two names: a full Redis lets us fetch, but not wait, and says so once.
        self._operation = f"fetch from {queue}"
        self._waiting = f"waiting for {queue}"
        self._entry = broker.registry_entry(queue)
        self._end = broker.dialect.fetched_from

    async def fetch(self, limit: int) -> Fetched:
        """Move up to `limit` payloads into our in-progress list, without waiting, and no more than the link carries in about a second.

        A lost reply leaves strays for `InProgress.audit`.
        """
        pace = self._connection.link.pace
        keys, holder = self._broker.keys, self._broker.holder
        names = [self._queue, self._list, keys.in_progress_lists, keys.lease(holder.process_id), keys.crashes]
        names.append(keys.drained(holder.process_id))
        args = [limit, pace.bytes, holder.lease, holder.lease_ms, self._entry, self._end]
        asked_at = trio.current_time()
        try:
            gone, suspects, payloads = await self._connection.run(FETCH, names, args, self._operation)
        except Unavailable:
            pace.failed()
            raise
        if len(payloads) > 1:
            pace.took(sum(map(len, payloads)), trio.current_time() - asked_at)
        if gone:
            holder.renewed_at = asked_at
        return Fetched(payloads, LeaseGone(gone), bool(suspects))

    @property
    def may_wait(self) -> bool:
        """Whether our lease surely lasts for a while. Else fetch, which takes it anew: what came while we wait would lie in a list that others take for abandoned."""
        return self._broker.holder.sure_until - trio.current_time() > SHORTEST_BLOCK_S

    async def wait(self) -> bytes | None:
        """Move one payload as soon as there is one; None if there is none until all that the worker does now and then comes round.

        Cancellation: Redis is asked to end the wait, so that none is delivered to nobody; one that was delivered all the same lies
        in the in-progress list.
        """
        ends_at = min(next_tick(self._block_s), self._broker.holder.sure_until)
        block_s = max(SHORTEST_BLOCK_S, round(ends_at - trio.current_time(), 3))
        blmove = [b"BLMOVE", self._queue, self._list, self._end, b"LEFT", block_s]
        payload: bytes | None = await self._connection.block(
            self._waiting, blmove, block_s + REPLY_TIMEOUT_S, self._end_wait
        )
        return payload

    async def _end_wait(self, client_id: int) -> None:
        await self._broker.connection.commands("unblock").unblock(client_id)
