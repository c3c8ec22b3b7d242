"""Puts back what lay beside payloads that were exported."""

from __future__ import annotations

from collections.abc import Mapping

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import script
from trioworkers.exits import DEAD_S
from trioworkers.wire.keys import Keys

RESTORE_STEPS = script(__file__, "restore_steps", keys=("steps",), args=("stays_s", "*pairs"))


async def restore_steps(connection: Connection, keys: Keys, jid: str, results: Mapping[str, str]) -> None:
    """Results of a job's steps, by name. What is there stays as it is. Raises BrokerError."""
    pairs = [text for pair in results.items() for text in pair]
    await connection.run(RESTORE_STEPS, [keys.steps(jid)], [DEAD_S, *pairs])
