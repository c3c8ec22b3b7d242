"""How many jobs waited, and how long: noted by whichever worker comes first in a minute, read back for pictures."""

from __future__ import annotations

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import script
from trioworkers.wire.keys import Keys

SAMPLE = script(__file__, "sample", keys=("queues",), args=("history", "prefix", "kept_s", "most", "shown"))

KEPT_S = 76 * 3600
MOST_QUEUES = 1000
SHOWN_QUEUES = 20


async def sample(connection: Connection, keys: Keys) -> bool:
    """Note it, if nobody has in this minute. Raises BrokerError."""
    args = [keys.history(""), keys.queue(""), KEPT_S, MOST_QUEUES, SHOWN_QUEUES]
    return bool(await connection.run(SAMPLE, [keys.queues], args, "history"))
