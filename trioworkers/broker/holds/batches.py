"""Batches at Redis: opened, sealed, cancelled; their members' ends are effects (`batches.lua`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.wire.keys import Keys

if TYPE_CHECKING:  # a client without Trio runs the script, too
    from trioworkers.broker.redis.connection import Connection

CANCEL_BATCH = script(__file__, "cancel_batch", keys=("batch",), args=("own", "id"), preludes=ENDS)


async def cancel_batch(connection: Connection, keys: Keys, batch: str) -> bool:
    """Have a batch take no more members, and say that it is cancelled; False if there is no such batch, or it is over. Raises BrokerError."""
    return bool(await connection.run(CANCEL_BATCH, [keys.batch(batch)], [keys.own, batch]))
