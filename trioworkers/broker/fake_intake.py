"""The fetching side of the broker in memory, and how it tells who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trioworkers.broker.contract import Fetched

if TYPE_CHECKING:
    from trioworkers.broker.fake import FakeBroker
    from trioworkers.broker.fake_store import FakeStore


class FakeNews:
    """See `News`."""

    def __init__(self, store: FakeStore) -> None:
        self._fake = store

    async def wait(self, seconds: float) -> bool:
        """Wait for the next move."""
        with trio.move_on_after(seconds):
            await self._fake.next_change.wait()
        return True


class FakeIntake:
    """The fetching side of a `FakeBroker`."""

    def __init__(self, broker: FakeBroker, queue: str) -> None:
        self._fake = broker
        self._name = queue
        self._limit = broker.queue_limits.get(queue)
        self.again_after_wait_s = None if self._limit is None else 0.0

    async def fetch(self, limit: int) -> Fetched:
        """See `RedisIntake.fetch`."""
        return await self._fake._call(lambda: self._take(limit))  # noqa: SLF001 - its other half

    def _take(self, most: int) -> Fetched:
        fake, again_in_s = self._fake, None
        if self._limit is not None:
            lists = [held for (queue, _), held in fake.lists.items() if fake.queue_limits.get(queue) == self._limit]
            most = fake.limits.may_take(*self._limit, most, sum(map(len, lists)))
        payloads = fake.take(self._name, most)
        if self._limit is not None:
            again_in_s = fake.limits.took(self._limit[0], len(payloads), waits=bool(fake.queues.get(self._name)))
        return Fetched(
            payloads, suspects=bool(fake.crash_counts) or fake.batches.some_are_cancelled, again_in_s=again_in_s
        )

    @property
    def may_wait(self) -> bool:
        """See `RedisIntake.may_wait`."""
        return True

    async def wait_for_news(self) -> None:
        """See `RedisIntake.wait_for_news`."""
        while not self._fake.queues.get(self._name):
            await self._fake.next_change.wait()

    async def wait(self) -> bytes | None:
        """See `RedisIntake.wait`."""
        await self.wait_for_news()
        return None if self._limit is not None else (await self.fetch(1)).payloads[0]
