"""An App with two shards, whose jobs lie in both and send into both; it works in the test's own process."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from trioworkers import App, Context, Shard, Worker

PATIENCE_S = 60.0


class Sharded:
    """Jobs of `begins` lie in both, wait at `gate`, and send one job into each; those of `left` and `right` lie in one each."""

    def __init__(self, left: Shard, right: Shard) -> None:
        self.app = App(shards={"left": left, "right": right}, shutdown_timeout=1.0, lease=5.0)
        self.app.queue("begins", shards=["left", "right"], concurrency=1000)
        self.app.queue("left", shards=["left"])
        self.app.queue("right", shards=["right"])
        self.left: Counter[int] = Counter()
        self.right: Counter[int] = Counter()
        self.begun: set[int] = set()
        self.gate = trio.Event()
        self.begins = self.app.handler("begins", "Begins", retry=3)(self._begins)
        self.to_left = self.app.handler("left", "Left")(self._left)
        self.to_right = self.app.handler("right", "Right")(self._right)

    async def _begins(self, ctx: Context, number: int) -> None:
        self.begun.add(number)
        await self.gate.wait()
        ctx.enqueue(self.to_left.job(number), self.to_right.job(number))

    async def _left(self, number: int) -> None:
        self.left[number] += 1

    async def _right(self, number: int) -> None:
        self.right[number] += 1

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Worker]:
        async with trio.open_nursery() as nursery:
            worker: Worker = await nursery.start(self.app.serve)
            yield worker
            worker.stop(1.0)

    async def all_at_the_gate(self, count: int) -> None:
        """So many jobs of `begins`, lying in both, which run until the gate is opened."""
        async with self.app.client() as client:
            await client.enqueue(*(self.begins.job(number) for number in range(count)))
        await until(lambda: len(self.begun) == count)

    async def come(self, count: int) -> None:
        """What they sent has run."""
        self.gate.set()
        await until(lambda: self.left.keys() == self.right.keys() == {*range(count)})


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.02)
