"""One queue's fetching side: a connection of its own, which blocks while the queue is empty.

The connection is an *epoch*: after any error the consumer leaves the block, waits a moment and opens a new one. That cures
half-open sockets and anything that coredis may have lost track of, all at once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from trioworkers.broker.contract import Fetched, LeaseGone
from trioworkers.broker.fetch_large import LargeFetches
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import REPLY_TIMEOUT_S, Connection, connect
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import Unavailable
from trioworkers.ticks import next_tick

_FETCH = partial(
    script,
    __file__,
    "fetch",
    keys=("queue", "list", "registry", "lease", "crashes", "drained", "dead", "unread", "cancelled"),
)
_ARGS = ("limit", "max_bytes", "ours", "lease_ms", "entry", "fetch_end", "huge_bytes", "before", "after", "renew")
FETCH = _FETCH(args=_ARGS, preludes=("pages", "unread", "fetching", "unlimited"))
FETCH_LIMITED = _FETCH(
    args=(*_ARGS, "own", "limit_name", "limit_spec"),
    preludes=("pages", "unread", "fetching", "send", "limits", "queue_limit"),
)
"""For queues with a limit over the fleet: see `holds/queue_limit.py`."""
BURY_HUGE = script(
    __file__,
    "bury_huge",
    keys=("lease", "list", "dead", "unread"),
    args=("ours", "huge_bytes", "before", "after"),
    preludes=("unread",),
)

logger = logging.getLogger("trioworkers")

SHORTEST_BLOCK_S = 0.05
"""Zero would be for ever."""


@asynccontextmanager
async def open_intake(broker: RedisBroker, url: str, block_s: float, queue: str) -> AsyncIterator[RedisIntake]:
    """An intake for `queue` that blocks until the next multiple of `block_s` seconds; closed at the end of the block."""
    async with connect(url, broker.connection.link, namespace=broker.keys.worker_namespace) as connection:
        intake = RedisIntake(broker, connection, queue, block_s)
        if queue in broker.cut_off:  # the wait before this one ended in the middle of what it brought
            await intake.bury_huge()
            broker.cut_off.discard(queue)
        yield intake


class RedisIntake:
    """Fetches for one queue. See `open_intake`. `again_after_wait_s`: as in `Fetched`, after a wait that brought nothing."""

    script = FETCH
    is_alone = True
    """Whether nobody else uses its connection, and it takes whatever there is."""
    more_args: Sequence[str | bytes] = ()
    again_after_wait_s: float | None = None

    def __init__(self, broker: RedisBroker, connection: Connection, queue: str, block_s: float) -> None:
        self._broker = broker
        self._connection = connection
        self._block_s = block_s
        self._name = queue
        self._queue = broker.keys.queue(queue)
        self._list = broker.in_progress(queue)
        keys, process_id = broker.keys, broker.holder.process_id
        lease, drained = keys.lease(process_id), keys.drained(process_id)
        self._names = [self._queue, self._list, keys.in_progress_lists, lease, keys.crashes, drained]
        self._names += [keys.dead, keys.unread, keys.cancelled_batches]
        # Two names: a full Redis lets us fetch, but not wait, and says so once.
        self._operation = f"fetch from {queue}"
        self._waiting = f"waiting for {queue}"
        self._entry = broker.registry_entry(queue)
        self._end = broker.dialect.fetched_from
        self._huge_bytes = broker.guard.huge_bytes
        self._around = broker.around_dead(queue)
        self._large = LargeFetches(broker, connection, queue)

    async def fetch(self, limit: int) -> Fetched:
        """Move up to `limit` payloads into our in-progress list, without waiting, and no more than the link carries in about a second.

        A lost reply leaves strays for `InProgress.audit`.
        """
        count = self._large.count(limit) if self.is_alone else 0
        if count and self.may_wait and (fetched := await self._large.fetch(count)) is not None:
            return fetched
        fetched = await self._fetch(limit)
        self._large.saw(fetched.payloads, limit)
        return fetched

    async def _fetch(self, limit: int) -> Fetched:
        pace, holder = self._connection.link.pace, self._broker.holder
        args = [
            limit,
            pace.bytes,
            holder.lease,
            holder.lease_ms,
            self._entry,
            self._end,
            self._huge_bytes,
            *self._around,
            int(renew := not self.may_wait),
            *self.more_args,
        ]
        asked_at = trio.current_time()
        try:
            gone, suspects, payloads, *rest = await self._connection.run(
                self.script, self._names, args, self._operation
            )
        except Unavailable as error:
            pace.lost(error, pace.bytes)
            raise
        if rest:
            self._tell(rest[0])
        if len(payloads) > 1:
            pace.took(sum(map(len, payloads)), trio.current_time() - asked_at)
        if gone or renew:
            holder.renewed_at = asked_at
        again_in_s = rest[1] / 1000 if len(rest) > 1 and rest[1] >= 0 else None
        return Fetched(payloads, LeaseGone(gone), bool(suspects), again_in_s)

    @property
    def may_wait(self) -> bool:
        """Whether our lease surely lasts for a while. Else fetch, which takes it anew: what came while we wait would lie in a list that others take for abandoned."""
        return self._broker.holder.sure_until - trio.current_time() > SHORTEST_BLOCK_S

    async def wait(self) -> bytes | None:
        """Move one payload as soon as there is one; None if there is none until all that the worker does now and then comes round.

        Cancellation: Redis is asked to end the wait. If a payload comes in that moment the cancellation comes too late, and it is returned; only one of
        which no answer tells, as the connection is lost or Redis silent, lies in the in-progress list.
        """
        try:
            payload = await self.block_for(self._list, "LEFT")
        except Unavailable:
            self._broker.cut_off.add(self._name)
            raise
        if payload is not None and len(payload) > self._huge_bytes:
            await self.bury_huge()
            return None
        return payload

    async def wait_for_news(self) -> None:
        """Wait until there is something in the queue, as long as `wait` does; it stays there. Cancellation: Redis is asked to end the wait."""
        # The last one goes to where it is: nothing changes, but that this blocks while there is none.
        await self.block_for(self._queue, self._end)

    async def block_for(self, where: str, end: str) -> bytes | None:
        """Wait for the next payload and have it moved to that end of the list `where`."""
        ends_at = min(next_tick(self._block_s), self._broker.holder.sure_until)
        block_s = max(SHORTEST_BLOCK_S, round(ends_at - trio.current_time(), 3))
        blmove = [b"BLMOVE", self._queue, where, self._end, end, block_s]
        payload: bytes | None = await self._connection.block(
            self._waiting, blmove, block_s + REPLY_TIMEOUT_S, self._end_wait
        )
        return payload

    async def bury_huge(self) -> None:
        """Bury what lies in our list and is too large to be moved about, without reading it. No cancellation ends it: what was taken must be dealt with."""
        keys, holder = self._broker.keys, self._broker.holder
        names = [keys.lease(holder.process_id), self._list, keys.dead, keys.unread]
        sizes = None
        with trio.CancelScope(shield=True):
            while sizes is None or sizes:
                sizes = await self._connection.run(BURY_HUGE, names, [holder.lease, self._huge_bytes, *self._around])
                self._tell(sizes)

    def _tell(self, sizes: Sequence[int]) -> None:
        tell_of_huge(self._name, sizes, self._broker.guard.max_bytes)

    async def _end_wait(self, client_id: int) -> None:
        await self._broker.connection.commands("unblock").unblock(client_id)


def tell_of_huge(queue: str, sizes: Sequence[int], max_bytes: int) -> None:
    """Say of payloads on this queue that they were buried unread."""
    for size in sizes:
        text = "a payload of %d bytes on queue %s goes to the dead set unread: too large to be moved (max_payload_bytes=%d)"
        logger.error(text, size, queue, max_bytes)
