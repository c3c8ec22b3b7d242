"""Batches at Redis: opened, sealed, cancelled; their members' ends are effects (`batches.lua`)."""

from __future__ import annotations

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.wire.keys import Keys

CANCEL_BATCH = script(__file__, "cancel_batch", keys=("batch",), args=("own", "id"), preludes=ENDS)


async def cancel_batch(connection: Connection, keys: Keys, batch: str) -> bool:
    """Have a batch take no more members, and say that it is cancelled; False if there is no such batch, or it is over. Raises BrokerError."""
    return bool(await connection.run(CANCEL_BATCH, [keys.batch(batch)], [keys.own, batch]))
