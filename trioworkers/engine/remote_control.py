"""What people want of a running worker, and its replies: cancel this job; where are your jobs.

Both go through Redis: the promoter's look brings what is in our list (so an idle worker sends no command more),
and the reply is laid under a key that expires.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import trio

from trioworkers.broker.contract import Broker
from trioworkers.broker.redis.connection import retrying
from trioworkers.engine.delivery import Delivery
from trioworkers.outcome import Bury, Discard, Outcome, Requeue
from trioworkers.retry import buried
from trioworkers.wire.control_messages import ControlMessage, Reply, decode_message, encode
from trioworkers.wire.decode import jid_of
from trioworkers.wire.dialect import SIDEKIQ, Dialect, Failure

logger = logging.getLogger("trioworkers")

REPLY_WITHIN_S = 5.0
MAX_ANSWER_CHARS = 500_000


class RemoteControl:
    """Obeys. `running`: the deliveries of this worker. `dialects`: what is spoken on which queue."""

    def __init__(
        self, broker: Broker, running: Callable[[], Iterable[Delivery]], dialects: Mapping[str, Dialect]
    ) -> None:
        self._broker = broker
        self._dialects = dialects
        self._running = running
        self._received: list[ControlMessage] = []
        self._arrived = trio.Event()
        self._awaited: dict[Delivery, trio.Event] = {}

    def receive(self, text: bytes) -> None:
        """A control message; what we don't understand (of a newer version, say) gets no reply."""
        message = decode_message(text)
        if message is None:
            logger.warning("a control message that this version does not know: %.200r", text)
            return
        self._received.append(message)
        self._arrived.set()

    def settled(self, deliveries: Iterable[Delivery]) -> None:
        """Outcomes of deliveries are written."""
        if self._awaited:
            for delivery in self._awaited.keys() & set(deliveries):
                self._awaited[delivery].set()

    async def run(self) -> None:
        """Obey for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._arrived.wait()
                self._arrived = trio.Event()
                received, self._received = self._received, []
                for message in received:
                    nursery.start_soon(self._obey, message)

    async def _obey(self, message: ControlMessage) -> None:
        match message.do:
            case "cancel":
                reply = await self._cancel(message)
            case "tree":
                reply = self._tree(message)
            case "note":
                logger.warning("%.1000s", message.note)
                reply = Reply("done")
        with trio.move_on_after(REPLY_WITHIN_S):
            await retrying(lambda: self._broker.reply(message.token, encode(reply)))

    async def _cancel(self, message: ControlMessage) -> Reply:
        delivery = next((each for each in self._running() if _is(each, message.jid) and not each.is_decided), None)
        if delivery is None:
            return Reply("unknown")
        logger.warning(
            "job %s (%s) is cancelled by an operator: %s",
            message.jid,
            delivery.job_class or "not started",
            message.then,
        )
        delivery.cancel(partial(self._fate, message, delivery))
        written = self._awaited.setdefault(delivery, trio.Event())
        with trio.move_on_after(message.patience_s):
            await written.wait()
        self._awaited.pop(delivery, None)
        if not written.is_set():
            return Reply("stubborn")
        return Reply("done" if delivery.was_stopped else "ended")

    def _fate(self, message: ControlMessage, delivery: Delivery, on_stop: Requeue) -> Outcome:
        match message.then:
            case "requeue":
                return on_stop
            case "discard":
                return Discard()
            case "bury":
                payload = delivery.payload if on_stop.payload is None else on_stop.payload
                now_s = self._broker.clock.now_s()
                failure = Failure("trioworkers.Cancelled", "cancelled by an operator")
                dialect = self._dialects.get(delivery.queue, SIDEKIQ)
                return Bury(buried(payload, delivery.queue, failure, now_s, dialect), failure=failure)

    def _tree(self, message: ControlMessage) -> Reply:
        from trioworkers.engine.task_tree import describe  # noqa: PLC0415 - seldom needed

        wanted = [each for each in self._running() if not message.jid or _is(each, message.jid)]
        wanted.sort(key=lambda each: each.started_at)
        jobs: list[str] = []
        size = 0
        for delivery in wanted[: max(message.limit, 0)]:
            jobs.append(describe(delivery))
            size += len(jobs[-1])
            if size > MAX_ANSWER_CHARS:
                break
        held = wanted[0].held if message.jid and wanted else None
        log = [] if held is None or held.log is None else held.log.newest()
        return Reply("done" if wanted else "unknown", jobs, len(wanted) - len(jobs), log)


def _is(delivery: Delivery, jid: str) -> bool:
    return delivery.jid == jid if delivery.jid else jid_of(delivery.payload) == jid
