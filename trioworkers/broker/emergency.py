"""What has to be done for a worker while its own event loop is blocked: by another loop, over a connection of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
import trio

from trioworkers.broker.contract import Holder
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.scripts import script
from trioworkers.errors import BrokerError
from trioworkers.redis_url import shown_url
from trioworkers.wire.dialect import Dialect
from trioworkers.wire.keys import Keys

RENEW = script(__file__, "renew", keys=("lease",), args=("ours", "lease_ms"))


@attrs.frozen
class Lists:
    """Where a worker's in-progress lists are, and who it is."""

    url: str
    keys: Keys
    holder: Holder
    identity: str
    queues: Mapping[str, Dialect]


async def release_all(lists: Sequence[Lists]) -> None:
    """Move everything in the lists back to the fetch end of its queue, and deregister. Raises BrokerError."""
    await _at_each(_release, lists)


async def renew_leases(lists: Sequence[Lists]) -> bool:
    """Renew the worker's lease, at each Redis where it still has it; returns whether it does at all. Raises BrokerError."""
    return any(await _at_each(_renew, lists))


async def _at_each(call: Callable[[Lists], Awaitable[bool]], lists: Sequence[Lists]) -> list[bool]:
    """Side by side, as one of them may be away. Raises the error of one of those that failed."""
    if len(lists) == 1:
        return [await call(lists[0])]
    results: list[bool] = []
    errors: list[BrokerError] = []

    async def one(each: Lists) -> None:
        try:
            results.append(await call(each))
        except BrokerError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for each in lists:
            nursery.start_soon(one, each)
    if errors:
        raise errors[0]
    return results


async def _release(lists: Lists) -> bool:
    async with connect(
        lists.url, Link(shown_url(lists.url)), namespace=lists.keys.worker_namespace, reply_timeout_s=0.4
    ) as connection:
        brokers = {
            queue: RedisBroker(connection, dialect.keys(lists.keys.worker_namespace), lists.holder, dialect=dialect)
            for queue, dialect in lists.queues.items()
        }
        for queue, broker in brokers.items():
            await broker.release(queue)
        main = RedisBroker(connection, lists.keys, lists.holder)
        await Presence(main, lists.identity, list(brokers), brokers).deregister()
    return True


async def _renew(lists: Lists) -> bool:
    holder = lists.holder
    async with connect(
        lists.url, Link(shown_url(lists.url)), namespace=lists.keys.worker_namespace, reply_timeout_s=1.0
    ) as connection:
        args = [holder.lease, holder.lease_ms]
        return bool(await connection.run(RENEW, [lists.keys.lease(holder.process_id)], args))
