"""Sender: what `sending.py` has made of jobs, over the connection to Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import trio

from trioworkers.broker.clock import Clock
from trioworkers.broker.contract import News, Sends
from trioworkers.broker.enqueue import script_of
from trioworkers.broker.holds.batches import cancel_batch
from trioworkers.broker.redis.connection import REPLY_TIMEOUT_S, Connection
from trioworkers.broker.redis.outbox import Outbox
from trioworkers.errors import BrokerError, Unavailable
from trioworkers.send import Send
from trioworkers.sending import Call, Met, Sending, late, met, read
from trioworkers.size_guard import SizeGuard
from trioworkers.wire.dialect import SIDEKIQ, Dialect
from trioworkers.wire.ended import Ended, decode_ended
from trioworkers.wire.job import Job, new_jid
from trioworkers.wire.keys import Keys
from trioworkers.wire.membership import Opening
from trioworkers.wire.periodic import Periodic


class Sender:
    """The sending moves; all that a `Client` needs."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        clock: Clock | None = None,
        guard: SizeGuard | None = None,
        dialect: Dialect = SIDEKIQ,
    ) -> None:
        self._begin(connection, Sending(keys, dialect, SizeGuard() if guard is None else guard), clock)

    @classmethod
    def of(cls, connection: Connection, sending: Sending) -> Sender:
        """The sending moves of a client, which knows what it speaks."""
        sender = cls.__new__(cls)
        sender._begin(connection, sending, None)  # noqa: SLF001 - one of our own
        return sender

    def _begin(self, connection: Connection, sending: Sending, clock: Clock | None) -> None:
        self.connection = connection
        self.keys = sending.keys
        self.clock = Clock() if clock is None else clock
        self.guard = sending.guard
        self.dialect = sending.dialect
        self.sending = sending
        self._outbox = Outbox(self._deliver)

    async def send(self, sends: Iterable[Send], token: str = "") -> Met:
        """Put jobs into their queues or the schedule set, a thousand or 8 MB at a time, of these all or none. Returns which unique jobs met another one.

        Calls of many tasks share round trips. With a `token` the call may be repeated within two minutes after a lost reply. Raises BadJob before anything is sent.
        """
        parcels: list[bytes] = []
        for parcel in self.sending.parcels(sends, self.clock.now_s()):
            if parcels:  # a hundred thousand jobs take a while to encode
                await trio.lowlevel.checkpoint()
            parcels.append(parcel)
        return await self.carry(parcels, token)

    async def carry(self, parcels: Sequence[bytes], token: str = "") -> Met:
        """Take parcels to Redis that were made before: see `send`. Raises BrokerError."""
        there: Met = {}
        for number, parcel in enumerate(parcels):
            if token:
                answer = (await self._send_repeatable(parcel, token, number)).get(0)
            else:
                answer = await self._outbox.send(parcel)
            if answer:
                there.update(met(parcel, answer))
        return there

    async def _send_repeatable(self, parcel: bytes, token: str, number: int) -> Mapping[int, BrokerError | Met]:
        try:
            return await self._run(self.sending.repeatable(parcel, token, number, self.clock.now_s()))
        except BrokerError as error:
            redis_now_s = late(error)
            if redis_now_s is None:
                raise
            self.clock.set(redis_now_s)  # nothing was done: this machine's clock is wrong, and nobody had told us
            return await self._run(self.sending.repeatable(parcel, token, number, redis_now_s))

    async def _deliver(self, parcels: Sequence[bytes]) -> Mapping[int, BrokerError | Met]:
        return await self._run(self.sending.call(parcels))

    async def _run(self, call: Call) -> Mapping[int, BrokerError | Met]:
        return read(await self.connection.run(script_of(call), call.keys, call.args))

    async def ended(self, jid: str) -> Ended | None:
        """How a job ended that keeps its result; None if that isn't known, or not any more. Raises BrokerError."""
        key = self.keys.result(jid)
        text = await self.connection.commands("result").get(key)
        return None if text is None else decode_ended(text)

    def news_of_end(self, jid: str) -> AbstractContextManager[News]:
        """Wakes who waits for the end of a job that keeps its result, within the block."""
        return self.connection.listen(self.keys.result(jid))

    async def recorded(self, jid: str, name: str) -> tuple[bytes | None, int]:
        """What step `name` of a job returned, if it is recorded beside the payload, and how many results are there. Raises BrokerError."""
        key, commands = self.keys.steps(jid), self.connection.commands("step")
        return await commands.hget(key, name), await commands.hlen(key)

    async def member_result(self, batch: str, name: str) -> bytes | None:
        """What the member of this name in a batch returned, in JSON; None if it has not succeeded, or the batch is forgotten. Raises BrokerError."""
        return await self.connection.commands("result").hget(f"{self.keys.batch(batch)}:results", name)

    async def open_batch(self, batch: str, opening: Opening) -> None:
        """Have a batch come into being, without members. Raises BrokerError, and BadJob for callbacks that can't be sent."""
        await self._send_batch(self.sending.batch_parcel(batch, opening, self.clock.now_s()))

    async def seal_batch(self, batch: str) -> None:
        """No more members come from outside. Raises BrokerError."""
        await self._send_batch(self.sending.batch_parcel(batch, None, self.clock.now_s()))

    async def _send_batch(self, parcel: bytes) -> None:
        met(parcel, (await self._send_repeatable(parcel, new_jid(), 0)).get(0))

    async def cancel_batch(self, batch: str) -> bool:
        """See `batches.cancel_batch`. Whoever asks may be cancelled, which is why; bounded, as Redis may be away."""
        with trio.move_on_after(REPLY_TIMEOUT_S, shield=True):
            return await cancel_batch(self.connection, self.keys, batch)
        raise Unavailable("no answer in time")

    async def put_periodic(self, entry: Periodic) -> None:
        """See `ticks.put`."""
        from trioworkers.broker.holds import ticks  # noqa: PLC0415 - few clients have periodic jobs

        await ticks.put(self.connection, self.keys, entry)

    async def delete_periodic(self, name: str) -> bool:
        """See `ticks.delete`."""
        from trioworkers.broker.holds import ticks  # noqa: PLC0415 - as above

        return await ticks.delete(self.connection, self.keys, name)

    def work(self, sends: Iterable[Send]) -> tuple[Any, ...]:
        """What goes out with an outcome: see `Sending.work`."""
        return self.sending.work(sends, self.clock.now_s())

    def spoken_on(self, queue: str) -> tuple[Dialect, Keys]:
        """What is spoken on a queue, and where it lies."""
        return self.sending.spoken_on(queue)

    def sends_of(self, job: Job, name: str) -> Sends:
        """Who deals with the periodic job of this name: of several shards, that in which it is to lie."""
        del job, name
        return self
