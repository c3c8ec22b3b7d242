"""Batches at Redis: opened, sealed, cancelled; their members' ends are effects (`batches.lua`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from trioworkers.broker.redis.scripts import ENDS, script
from trioworkers.wire.keys import Keys
from trioworkers.wire.packing import pack

if TYPE_CHECKING:  # a client without Trio runs the script, too
    from trioworkers.broker.redis.connection import Connection

CANCEL_BATCH = script(__file__, "cancel_batch", keys=(), args=("own", "id"), preludes=ENDS)
CANCELLED = script(__file__, "cancelled", keys=(), args=("own", "ids"), preludes=ENDS)
ABANDONED = script(__file__, "abandoned", keys=(), args=("own", "at", "limit"), preludes=ENDS)
MOVE_ON = script(__file__, "move_on", keys=("moving",), args=("own",), preludes=ENDS)
PAGE = 1000


async def cancel_batch(connection: Connection, keys: Keys, batch: str) -> bool:
    """Have a batch take no more members, and say that it is cancelled; False if there is no such batch, or it is over. Raises BrokerError."""
    return bool(await connection.run(CANCEL_BATCH, [], [keys.own, batch]))


async def cancelled(connection: Connection, keys: Keys, batches: Sequence[str]) -> set[str]:
    """Those that are cancelled, or lie in one that is, and aren't over. Raises BrokerError."""
    found = await connection.run(CANCELLED, [], [keys.own, pack(batches)])
    return {batch for batch, is_cancelled in zip(batches, found, strict=True) if is_cancelled}


async def cancel_abandoned(connection: Connection, keys: Keys) -> AsyncGenerator[str, None]:
    """Cancel the batches into which nobody streams members any more; which those were, page by page, lest the next page's error have them forgotten. Raises BrokerError."""
    at = 0
    while at >= 0:
        at, *found = await connection.run(ABANDONED, [], [keys.own, at, PAGE])
        for batch in found:
            yield batch.decode(errors="replace")


async def move_on(connection: Connection, keys: Keys) -> int:
    """Do a page of what the ends of members have others do; how much is left. Raises BrokerError."""
    left: int = await connection.run(MOVE_ON, [keys.moving], [keys.own])
    return left
