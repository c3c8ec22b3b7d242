"""What people want of running workers: send one a control message and wait for its reply, signal one, pause queues and classes for all.

A worker receives its control messages, and what is paused, every second (while it runs nothing, every 2.5). Signals are Sidekiq's way, received with a heartbeat, and
understood by Ruby's processes, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs
import trio

from trioworkers.broker.redis.connection import Connection
from trioworkers.broker.redis.scripts import script
from trioworkers.wire.control_messages import IDLE_CHECK_INTERVAL_S, ControlMessage, Reply, decode_reply, encode
from trioworkers.wire.keys import Keys

SEND_CONTROL = script(__file__, "send_control", keys=("mailbox",), args=("word", "kept_s"))

POLL_S = 0.05
RECEIVED_WITHIN_S = IDLE_CHECK_INTERVAL_S + 1.0
"""By then every live worker that isn't blocked has received it."""
FORGOTTEN_AFTER_S = 60


@attrs.frozen
class Paused:
    """What is paused."""

    queues: frozenset[str]
    classes: frozenset[str]


class FleetControl:
    """Speaks to the workers of one Redis database."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def send(self, process_id: str, message: ControlMessage, patience_s: float) -> Reply | None:
        """Send to a worker of ours; its reply, or None if none comes in time. What was wanted may be done all the same. Raises BrokerError."""
        keys = [self._keys.control(process_id)]
        await self._connection.run(SEND_CONTROL, keys, [encode(message), FORGOTTEN_AFTER_S], "control")
        key = self._keys.reply(message.token)
        with trio.move_on_after(patience_s):
            while True:
                text = await self._connection.commands("reply").getdel(key)
                if text is not None:
                    return decode_reply(text)
                await trio.sleep(POLL_S)
        return None

    async def signal(self, identity: str, signal: Literal["TSTP", "TERM", "TTIN"]) -> None:
        """Leave a signal for a process, Ruby's or ours; it is forgotten after a minute. Raises BrokerError."""
        keys = [self._keys.signals(identity)]
        await self._connection.run(SEND_CONTROL, keys, [signal, FORGOTTEN_AFTER_S], "signal")

    async def paused(self) -> Paused:
        """What is paused now. Raises BrokerError."""
        read = self._connection.commands("paused")
        queues, classes = await read.smembers(self._keys.paused), await read.smembers(self._keys.paused_classes)
        return Paused(frozenset(queues), frozenset(classes))

    async def pause(self, queues: Sequence[str] = (), classes: Sequence[str] = ()) -> None:
        """Pause for all workers, those to come as well, until resumed. Raises BrokerError."""
        if queues:
            await self._connection.commands("pause").sadd(self._keys.paused, list(queues))
        if classes:
            await self._connection.commands("pause").sadd(self._keys.paused_classes, list(classes))

    async def resume(self, queues: Sequence[str] = (), classes: Sequence[str] = ()) -> None:
        """Undo `pause`. What was held of a class comes back by itself within minutes. Raises BrokerError."""
        if queues:
            await self._connection.commands("resume").srem(self._keys.paused, list(queues))
        if classes:
            await self._connection.commands("resume").srem(self._keys.paused_classes, list(classes))
