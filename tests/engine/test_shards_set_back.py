"""A worker's shard that doesn't go away but goes wrong: it stands still, is emptied, or comes back from an older copy of itself."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from servers import Server

from trioworkers import App, Context, Shard, Worker


class Pair:
    """Two servers. Jobs of `first` lie in the one and send into the other; those of `here` lie in the first and send nothing."""

    def __init__(self, folder: Path) -> None:
        self.servers = []
        for name in "ab":
            (folder / name).mkdir()
            self.servers.append(Server(folder / name).start())
        self.source, self.target = self.servers
        self.app = App(
            shards={"a": Shard(self.source.url), "b": Shard(self.target.url)}, shutdown_timeout=1.0, lease=2.0
        )
        self.ran: Counter[int] = Counter()
        self.app.queue("first", shards=["a"])
        self.app.queue("second", shards=["b"])
        self.second = self.app.handler("second", "Second")(self._note)
        self.here = self.app.handler("first", "Here")(self._note)
        self.first = self.app.handler("first", "First")(self._first)

    async def _first(self, ctx: Context, number: int) -> None:
        ctx.enqueue(self.second.job(number))

    async def _note(self, number: int) -> None:
        self.ran[number] += 1

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Worker]:
        async with trio.open_nursery() as nursery:
            worker: Worker = await nursery.start(self.app.serve)
            yield worker
            worker.stop(1.0)

    async def send(self, *numbers: int) -> None:
        async with self.app.client() as client:
            await client.enqueue(*(self.first.job(number) for number in numbers))

    async def come(self, *numbers: int) -> None:
        await until(lambda: {*numbers} <= self.ran.keys())

    async def is_forwarded(self) -> None:
        await until(lambda: self.source.command("EXISTS", "tw:outbox:b") == 0)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = Pair(tmp_path)
    yield found
    for server in found.servers:
        server.kill()


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.01)


async def test_shard_that_stands_still_keeps_the_other_from_nothing(pair: Pair):
    async with pair.working(), pair.app.client() as client:
        await pair.send(1)
        await pair.come(1)
        pair.target.send(signal.SIGSTOP)
        try:
            await pair.send(*range(100, 120))
            await client.enqueue(*(pair.here.job(number) for number in range(200, 400)))
            await pair.come(*range(200, 400))
            await until(lambda: pair.source.command("LLEN", "queue:first") == 0)
        finally:
            pair.target.send(signal.SIGCONT)
        await pair.come(*range(100, 120))
    assert {*pair.ran.values()} == {1}


async def test_target_that_is_emptied_gets_what_is_sent_from_then_on(pair: Pair):
    async with pair.working():
        await pair.send(*range(10))
        await pair.come(*range(10))
        await pair.is_forwarded()
        pair.target.command("FLUSHALL")
        await pair.send(*range(10, 20))
        await pair.come(*range(10, 20))
        await pair.is_forwarded()
    assert pair.ran == Counter(range(20))


async def test_source_that_is_emptied_loses_nothing_new(pair: Pair):
    async with pair.working():
        await pair.send(*range(10))
        await pair.come(*range(10))
        await pair.is_forwarded()
        pair.source.command("FLUSHALL")
        await pair.send(*range(10, 13))  # their numbers would be among those that came
        await pair.come(*range(10, 13))
        await pair.is_forwarded()
    assert pair.ran == Counter(range(13))


@pytest.mark.parametrize("which", ["source", "target"])
async def test_shard_comes_back_from_an_older_copy_and_nothing_new_is_lost(
    pair: Pair, which: str, caplog: pytest.LogCaptureFixture
):
    server: Server = getattr(pair, which)
    async with pair.working():
        await pair.send(*range(5))
        await pair.come(*range(5))
        await pair.is_forwarded()
    copy = older_copy(server)
    async with pair.working():
        await pair.send(*range(5, 15))
        await pair.come(*range(5, 15))
        await pair.is_forwarded()
    server.kill()
    write_back(server, copy)
    server.start()
    async with pair.working():
        await pair.send(*range(15, 20))  # fewer than came since the copy was made
        await pair.come(*range(15, 20))
        await pair.is_forwarded()
    assert pair.ran == Counter(range(20))
    assert ("its jobs for shard 'b' are numbered again" in caplog.text) == (which == "source")


def older_copy(server: Server) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in server.folder.glob("appendonly*/*")} | {
        path: path.read_bytes() for path in server.folder.glob("*.aof")
    }


def write_back(server: Server, copy: dict[Path, bytes]) -> None:
    for path in (*server.folder.glob("appendonly*/*"), *server.folder.glob("*.aof")):
        path.unlink()
    for path, content in copy.items():
        path.write_bytes(content)
