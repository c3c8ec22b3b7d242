"""What has to be done for a worker while its own event loop is blocked: by another loop, over a connection of its own."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from trioworkers.broker.contract import Holder
from trioworkers.broker.moves import RedisBroker
from trioworkers.broker.presence import Presence
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.broker.redis.scripts import script
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


async def release_all(lists: Lists) -> None:
    """Move everything in the lists back to the fetch end of its queue, and deregister. Raises BrokerError."""
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


async def renew_lease(lists: Lists) -> bool:
    """Renew the worker's lease if it still has it; returns whether. Raises BrokerError."""
    holder = lists.holder
    async with connect(
        lists.url, Link(shown_url(lists.url)), namespace=lists.keys.worker_namespace, reply_timeout_s=1.0
    ) as connection:
        args = [holder.lease, holder.lease_ms]
        return bool(await connection.run(RENEW, [lists.keys.lease(holder.process_id)], args))
