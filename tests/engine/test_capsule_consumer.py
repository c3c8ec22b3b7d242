"""A capsule's loop among others that draw from the same slots."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from trioworkers.broker.contract import FetchedTogether
from trioworkers.engine.capsule_consumer import CapsuleConsumer
from trioworkers.engine.delivery import Delivery
from trioworkers.engine.served_queue import ServedQueue
from trioworkers.engine.slots import Slots
from trioworkers.outcome import ACKNOWLEDGE, Outcome


class NeverComes:
    """The next job of one queue."""

    may_wait = True
    again_after_wait_s: float | None = None

    async def wait(self) -> None:
        await trio.sleep_forever()


class Empty:
    """Queues in which there is nothing."""

    may_wait = True

    def __init__(self, queues: Sequence[str]) -> None:
        self.waits: Mapping[str, Any] = {queue: NeverComes() for queue in queues}
        self._queues = queues

    async def fetch(self, limit: int, queues: Sequence[str]) -> FetchedTogether:
        await trio.lowlevel.checkpoint()
        return FetchedTogether({})

    async def lengths(self) -> Sequence[int]:
        return [0 for _ in self._queues]

    async def wait_for_news(self, queues: Sequence[str]) -> Collection[str]:
        await trio.sleep_forever()
        return ()


async def test_who_waits_for_a_job_lets_go_of_the_slot_that_another_needs(autojump_clock: object):
    slots, names = Slots(4), ["a", "b"]
    ours, other = slots.draw(), slots.draw()
    parts: Any = SimpleNamespace(checkpoint=None, killed=None, submit=None, progress_saved_by=lambda _: None)
    queues = [
        ServedQueue(
            name, ours, broker=parts, runner=parts, settler=parts, quarantine=parts, is_fetched_with_others=True
        )
        for name in names
    ]

    @asynccontextmanager
    async def open_intake() -> AsyncIterator[Any]:
        yield Empty(names)

    consumer = CapsuleConsumer(queues, open_intake=open_intake, on_lease_gone=lambda _: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consumer.run)
        await trio.testing.wait_all_tasks_blocked()
        assert slots.free == 2  # a slot is held for each
        assert other.take(4) == 2
        with trio.fail_after(1):  # long before anything comes round
            await other.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert other.take(4) == 2
        nursery.cancel_scope.cancel()


class Told(Empty):
    """Of the first queue is told once that there is a job in it, as in a capsule of many."""

    def __init__(self, queues: Sequence[str], seen: list[str]) -> None:
        super().__init__(queues)
        self.waits = {}
        self._seen = seen
        self._news = list(queues[:1])
        self._payloads: list[bytes] = []

    async def fetch(self, limit: int, queues: Sequence[str]) -> FetchedTogether:
        self._seen.append(f"fetch from {len(queues)}")
        await trio.lowlevel.checkpoint()
        payloads, self._payloads = self._payloads, []
        return FetchedTogether({queues[0]: payloads} if payloads else {})

    async def wait_for_news(self, queues: Sequence[str]) -> Collection[str]:
        if not self._news:
            await trio.sleep_forever()
        self._payloads = [b"payload"]
        return [self._news.pop()]


async def test_job_that_was_waited_for_goes_before_the_look_for_more(nursery: trio.Nursery):
    seen: list[str] = []

    async def run(delivery: Delivery, save: object) -> Outcome:
        seen.append("job")
        return ACKNOWLEDGE

    names = ["a", "b", "c"]
    parts: Any = SimpleNamespace(
        checkpoint=None, killed=None, submit=lambda *_: None, run=run, progress_saved_by=lambda _: None
    )
    slots = Slots(4).draw()
    queues = [
        ServedQueue(
            name, slots, broker=parts, runner=parts, settler=parts, quarantine=parts, is_fetched_with_others=True
        )
        for name in names
    ]

    @asynccontextmanager
    async def open_intake() -> AsyncIterator[Any]:
        yield Told(names, seen)

    for each in queues:
        await nursery.start(each.jobs.run)
        each.audit.passed()
    nursery.start_soon(CapsuleConsumer(queues, open_intake=open_intake, on_lease_gone=lambda _: None).run)
    await trio.testing.wait_all_tasks_blocked()
    assert seen == ["fetch from 3", "fetch from 1", "job", "fetch from 1"]
