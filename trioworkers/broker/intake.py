"""One queue's fetching side: a connection of its own, which blocks while the queue is empty.

The connection is an *epoch*: after any error the consumer leaves the block, waits a moment and opens a new one. That cures
half-open sockets and anything that coredis may have lost track of, all at once.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import coredis
import trio

from trioworkers.broker import scripts
from trioworkers.broker.connection import REPLY_TIMEOUT_S, Connection, connect
from trioworkers.broker.moves import Broker
from trioworkers.errors import BrokerError

MAX_FETCH_BYTES = 8_000_000
UNBLOCK_PATIENCE_S = 1.0


class LeaseGone(enum.IntEnum):
    """Whether our lease was missing when we looked: EXPIRED, others may have taken what we run; FORGOTTEN, Redis lost its data."""

    NO = 0
    EXPIRED = 1
    FORGOTTEN = 2


@attrs.frozen
class Fetched:
    """What a fetch brought. `lease_gone`: see `LeaseGone`. `suspects`: some job's worker died under it, look closer."""

    payloads: list[bytes]
    lease_gone: LeaseGone = LeaseGone.NO
    suspects: bool = False


@asynccontextmanager
async def open_intake(broker: Broker, url: str, block_s: float, queue: str) -> AsyncIterator[Intake]:
    """An intake for `queue` that blocks for up to `block_s` seconds at a time; closed at the end of the block."""
    link = broker.connection.link
    async with connect(url, link, reply_timeout_s=block_s + REPLY_TIMEOUT_S, max_connections=1) as connection:
        # Its own bound: the client's is made for blocking, too long to wait for a server that accepts and says nothing.
        patience = trio.CancelScope(deadline=trio.current_time() + REPLY_TIMEOUT_S, shield=True)
        client_id = await connection.call("fetch", lambda client: client.client_id(), patience)
        yield Intake(broker, connection, queue, block_s, client_id)


class Intake:
    """Fetches for one queue. See `open_intake`."""

    def __init__(self, broker: Broker, connection: Connection, queue: str, block_s: float, client_id: int) -> None:
        self._broker = broker
        self._connection = connection
        self._block_s = block_s
        self._client_id = client_id
        self._queue = broker.keys.queue(queue)
        self._list = broker.in_progress(queue)
        # Two names: a full Redis lets us fetch, but not wait, and says so once.
        self._operation = f"fetch from {queue}"
        self._waiting = f"waiting for {queue}"
        self._entry = broker.registry_entry(queue)
        self._end = broker.dialect.fetched_from

    async def fetch(self, limit: int) -> Fetched:
        """Move up to `limit` payloads into our in-progress list, without waiting. A lost reply leaves strays for `Broker.audit`."""
        keys, holder = self._broker.keys, self._broker.holder
        names = [self._queue, self._list, keys.in_progress_lists, keys.lease(holder.process_id), keys.reclaims]
        args = [limit, MAX_FETCH_BYTES, holder.lease, holder.lease_ms, self._entry, self._end]
        gone, suspects, *payloads = await self._connection.run(scripts.FETCH, names, args, self._operation)
        return Fetched(payloads, LeaseGone(gone), bool(suspects))

    async def wait(self) -> bytes | None:
        """Move one payload as soon as there is one; None after `block_s` seconds without.

        Cancellation: Redis is asked to end the wait, so that none is delivered to nobody; one that was delivered all the same lies
        in the in-progress list.
        """
        finished = trio.Event()
        shield = trio.CancelScope(shield=True)
        result: list[bytes | BrokerError | None] = []

        async def block() -> None:
            try:
                result.append(await self._connection.call(self._waiting, self._blmove, shield))
            except BrokerError as error:
                result.append(error)
            finally:
                finished.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(block)
            try:
                await finished.wait()
            except trio.Cancelled:
                await self._end_wait(finished, shield)
                raise
        if isinstance(result[0], BrokerError):
            raise result[0]
        return result[0]

    def _blmove(self, client: coredis.Redis[bytes]) -> coredis.commands.CommandRequest[bytes | None]:
        token = coredis.PureToken
        if self._end == "LEFT":
            return client.blmove(self._queue, self._list, token.LEFT, token.LEFT, self._block_s)
        return client.blmove(self._queue, self._list, token.RIGHT, token.LEFT, self._block_s)

    async def _end_wait(self, finished: trio.Event, shield: trio.CancelScope) -> None:
        # Shielded, for we are being cancelled; bounded, for Redis may not answer. In the worst case the call is cancelled inside
        # coredis, which costs a slot of a pool that nobody uses any more.
        # Asked again until it works: the first request may overtake the command that it shall end.
        with trio.move_on_after(UNBLOCK_PATIENCE_S, shield=True):
            while not finished.is_set():
                with suppress(BrokerError):
                    await self._broker.connection.call("unblock", lambda client: client.client_unblock(self._client_id))
                with trio.move_on_after(0.05):
                    await finished.wait()
        shield.cancel()
