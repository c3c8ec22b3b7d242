"""The fetching side of a queue with a limit over the fleet: what may not run yet stays where it is, in its order, for all to see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trioworkers.broker import intake
from trioworkers.broker.intake import RedisIntake
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.wire.limit_spec import LimitSpec
from trioworkers.wire.packing import pack


@asynccontextmanager
async def open_limited_intake(
    broker: RedisBroker, url: str, block_s: float, name: str, spec: LimitSpec, queue: str
) -> AsyncIterator[LimitedIntake]:
    """An intake for `queue`, which is under the limit that Redis knows as `name`; see `open_intake`."""
    async with connect(url, broker.connection.link, namespace=broker.keys.worker_namespace) as connection:
        yield LimitedIntake(broker, connection, queue, block_s, name, spec)


class LimitedIntake(RedisIntake):
    """Takes no more than may run, and waits for news of the queue without taking anything: who waits holds no permit that way."""

    script = intake.FETCH_LIMITED
    is_alone = False
    again_after_wait_s = 0.0

    def __init__(
        self, broker: RedisBroker, connection: Connection, queue: str, block_s: float, name: str, spec: LimitSpec
    ) -> None:
        super().__init__(broker, connection, queue, block_s)
        self.more_args = [broker.keys.own, name, pack(spec.stored())]

    async def wait(self) -> bytes | None:
        """Wait until there is something in the queue, as long as `RedisIntake.wait` does; it stays there, so always None.

        Cancellation: Redis is asked to end the wait.
        """
        await self.wait_for_news()
        return None
