"""A capsule's loop among others that draw from the same slots."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from trioworkers.broker.contract import FetchedTogether, Heard
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

    async def wait_for_news(self, queues: Sequence[str], has_slot: Callable[[], bool]) -> Heard:
        await trio.sleep_forever()
        return Heard()


async def test_who_waits_for_a_job_lets_go_of_the_slot_that_another_needs(autojump_clock: object):
    slots, names = Slots(4), ["a", "b"]
    ours, other = slots.draw(), slots.draw()
    parts: Any = SimpleNamespace(
        checkpoint=None, killed=None, submit=None, progress_saved_by=lambda _: None, is_leaving=lambda: False
    )
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

    async def wait_for_news(self, queues: Sequence[str], has_slot: Callable[[], bool]) -> Heard:
        if not self._news:
            await trio.sleep_forever()
        self._payloads = [b"payload"]
        return Heard([self._news.pop()])


async def test_job_that_was_waited_for_goes_before_the_look_for_more(nursery: trio.Nursery):
    seen: list[str] = []
    await _serve(nursery, Slots(4), Told(["a", "b", "c"], seen), seen)
    assert seen == ["fetch from 3", "fetch from 1", "job", "fetch from 1"]


class Taken(Told):
    """The job came with the news, if there was a slot."""

    async def wait_for_news(self, queues: Sequence[str], has_slot: Callable[[], bool]) -> Heard:
        heard = await super().wait_for_news(queues, has_slot)
        self._seen.append(f"slot {has_slot()}, {has_slot()}")
        if not has_slot():
            return heard
        payload = self._payloads.pop()
        return Heard((), queues[0], payload)


async def test_job_that_came_with_the_news_starts_before_any_fetch(nursery: trio.Nursery):
    seen: list[str] = []
    slots = Slots(4)
    await _serve(nursery, slots, Taken(["a", "b", "c"], seen), seen)
    assert seen == ["fetch from 3", "slot True, True", "job", "fetch from 1"]
    assert slots.free == 3  # of one that nobody settles


class Late(Taken):
    """Another worker got it."""

    async def wait_for_news(self, queues: Sequence[str], has_slot: Callable[[], bool]) -> Heard:
        heard = await super().wait_for_news(queues, has_slot)
        return Heard((), heard.queue)


async def test_slot_for_a_job_that_another_worker_got_is_given_back(nursery: trio.Nursery):
    seen: list[str] = []
    slots = Slots(4)
    await _serve(nursery, slots, Late(["a", "b", "c"], seen), seen)
    assert seen == ["fetch from 3", "slot True, True"]
    assert slots.free == 4


async def test_last_slot_is_left_to_whose_turn_it_is(nursery: trio.Nursery):
    seen: list[str] = []
    await _serve(nursery, Slots(1), Taken(["a", "b", "c"], seen), seen)
    assert seen == ["fetch from 3", "slot False, False", "fetch from 1", "job"]


async def _serve(nursery: trio.Nursery, slots: Slots, intake: Told, seen: list[str]) -> None:
    """Serve three queues through this intake until all wait for something."""

    async def run(delivery: Delivery, save: object) -> Outcome:
        seen.append("job")
        return ACKNOWLEDGE

    parts: Any = SimpleNamespace(
        checkpoint=None,
        killed=None,
        submit=lambda *_: None,
        run=run,
        progress_saved_by=lambda _: None,
        is_leaving=lambda: False,
    )
    draw = slots.draw()
    queues = [
        ServedQueue(
            name, draw, broker=parts, runner=parts, settler=parts, quarantine=parts, is_fetched_with_others=True
        )
        for name in ("a", "b", "c")
    ]

    @asynccontextmanager
    async def open_intake() -> AsyncIterator[Any]:
        yield intake

    for each in queues:
        await nursery.start(each.jobs.run)
        each.audit.passed()
    nursery.start_soon(CapsuleConsumer(queues, open_intake=open_intake, on_lease_gone=lambda _: None).run)
    await trio.testing.wait_all_tasks_blocked()
