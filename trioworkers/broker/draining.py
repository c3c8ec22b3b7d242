"""The fetching side of a queue in a shard that it has left: what still comes there (retries, what was scheduled, what others push) is drained.

It looks now and then, over the connection that the worker has there anyway; as long as there is something, it fetches like any other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trioworkers.broker.intake import RedisIntake
from trioworkers.broker.moves import RedisBroker
from trioworkers.ticks import next_tick

LOOK_EVERY_S = 5.0


@asynccontextmanager
async def open_drain(broker: RedisBroker, queue: str) -> AsyncIterator[RedisIntake]:
    """An intake for what is left of `queue`; there is nothing to be closed."""
    yield _Drain(broker, broker.connection, queue, LOOK_EVERY_S)


class _Drain(RedisIntake):
    is_alone = False

    async def block_for(self, where: str, end: str) -> bytes | None:
        """Wait a while, then move the next payload, if there is one. Cancellation: nothing was moved."""
        holder = self._broker.holder
        await trio.sleep_until(min(next_tick(self._block_s), holder.sure_until))
        payload: bytes | None = await self._connection.execute(
            self._waiting, "LMOVE", self._queue, where, self._end, end
        )
        return payload
