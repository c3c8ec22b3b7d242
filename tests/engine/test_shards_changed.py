"""The list of shards changes while jobs come: workers and clients have the new list one after the other. Every jid is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest
import redis
import trio

from trioworkers import App, Context, Shard, Worker
from trioworkers.broker import draining
from trioworkers.engine import forwarding

WAIT_EVERY_S = 0.01


class Fleet:
    """Versions of one App, whose jobs of `first` send one of the same number into `second`. `began`, `ended`: by number, over all versions."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.first: Counter[int] = Counter()
        self.second: Counter[int] = Counter()
        self.sent = 0

    def version(self, shards: str, first: str, second: str) -> App:
        """One that names `shards`, and has each queue in these of them."""
        app = App(
            shards={name: Shard(self.url, namespace=f"{{{name}}}") for name in shards}, shutdown_timeout=5.0, lease=10.0
        )
        app.queue("first", shards=[*first], concurrency=10)
        app.queue("second", shards=[*second], concurrency=10)
        to_second = app.handler("second", "Second")(self._second)

        async def handler(ctx: Context, number: int) -> None:
            await trio.lowlevel.checkpoint()
            self.first[number] += 1
            ctx.enqueue(to_second.job(number))

        app.handler("first", "First")(handler)
        return app

    async def _second(self, number: int) -> None:
        await trio.lowlevel.checkpoint()
        self.second[number] += 1

    async def run(self, app: App, *, task_status: trio.TaskStatus[Callable[[], Awaitable[None]]]) -> None:
        """A worker and a client of this version, which sends; until the call that is returned, which waits for the end."""
        ended = trio.Event()
        async with trio.open_nursery() as nursery:
            worker: Worker = await nursery.start(app.serve)
            sending = trio.CancelScope()

            async def stop() -> None:
                sending.cancel()
                worker.stop(5.0)
                await ended.wait()

            task_status.started(stop)
            with sending:
                await self._send(app)
        ended.set()

    async def _send(self, app: App) -> None:
        [handler] = [each for each in app.handlers if each.job_class == "First"]
        async with app.client() as client:
            while True:
                numbers = range(self.sent, self.sent + 5)
                self.sent += 5
                with trio.CancelScope(shield=True):
                    await client.enqueue(*(handler.job(number) for number in numbers))
                await trio.sleep(WAIT_EVERY_S)

    async def more(self, count: int) -> None:
        """Until so many more have run than were sent before."""
        wanted = self.sent + count
        await until(lambda: len(self.second) >= wanted)

    def all_came(self) -> bool:
        return len(self.first) == len(self.second) == self.sent


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.01)


def keys(url: str, pattern: str) -> Sequence[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return sorted(client.keys(pattern))


VERSIONS = {
    "one is added": [("ab", "ab", "b"), ("abc", "abc", "b")],
    "one is removed that others send to": [("abc", "ab", "c"), ("abc", "ab", "b")],
    "one is added and taken back": [("ab", "ab", "b"), ("abc", "abc", "bc"), ("abc", "ab", "b")],
    "all are others": [("abcd", "ab", "b"), ("abcd", "cd", "d")],
}


@pytest.mark.parametrize("versions", VERSIONS.values(), ids=VERSIONS)
async def test_list_changes_under_load_and_every_job_runs_once(
    redis_url: str, versions: Sequence[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
):
    """Two workers, with a client each, are replaced one after the other: for a while both lists are in use."""
    monkeypatch.setattr(draining, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(forwarding, "LOOK_EVERY_S", 0.1)
    fleet = Fleet(redis_url)
    async with trio.open_nursery() as nursery:
        stops: list[Callable[[], Awaitable[None]]] = []
        for version in versions:
            before, stops = stops, []
            for _ in range(2):
                if before:
                    await before.pop()()
                stops.append(await nursery.start(fleet.run, fleet.version(*version)))
                await fleet.more(20)
        for stop in stops:
            await stop()
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(fleet.version(*versions[-1]).serve)  # nobody sends any more
        await until(fleet.all_came)
        await until(lambda: keys(redis_url, "*tw:outbox:*") == [])
        worker.stop(5.0)
    assert {*fleet.first.values()} == {*fleet.second.values()} == {1}
    assert keys(redis_url, "*:queue:*") == []  # lists in progress among them
