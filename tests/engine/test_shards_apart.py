"""Two shards that are one database, at two addresses: found out at run time. The second counts as away as long as they are. What only looks like it isn't."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from click.testing import CliRunner
from servers import Server

from trioworkers import App, Job, Shard, Unavailable, Worker
from trioworkers.broker.apart import Doors, Place, is_same
from trioworkers.broker.redis.connection import Connection, connect
from trioworkers.broker.redis.link import Ask, Link
from trioworkers.cli.commands import app as commands
from trioworkers.wire.keys import Keys


@pytest.fixture
def alias(redis_url: str) -> str:
    """The same database, at an address that no comparison of texts recognises."""
    return redis_url.replace("127.0.0.1", "127.1")


def app_of(a: str, b: str, **options: Any) -> tuple[App, list[int]]:
    app = App(shards={"a": Shard(a), "b": Shard(b)}, shutdown_timeout=1.0, **options)
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    app.queue("q", shards=["a", "b"])
    app.handler("q", "A")(note)
    return app, ran


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for record in caplog.records if "the same database" in (line := record.getMessage())]


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.01)


def processes(server: Server) -> int:
    return int(str(server.command("SCARD", "processes")))


@pytest.mark.parametrize("process_id", [None, "w1"])
async def test_second_address_of_a_database_counts_as_away(
    redis_url: str, alias: str, shared_server: Server, caplog: pytest.LogCaptureFixture, process_id: str | None
):
    """And the first works on, with all that is there."""
    app, ran = app_of(redis_url, alias, process_id=process_id)
    async with app.client() as client, trio.open_nursery() as nursery:
        await client.enqueue(*(Job("q", "A", [number]) for number in range(50)))
        worker: Worker = await nursery.start(app.serve)
        await until(lambda: told(caplog) and len(ran) == 50)
        assert processes(shared_server) == 1
        assert not worker.stopping
        worker.stop()
    assert sorted(ran) == list(range(50))
    [line] = told(caplog)
    assert re.fullmatch(
        r"Redis at \S+ is unreachable \(shard '[ab]' \(redis://.*\) and shard '[ab]' \(redis://.*\) are the same database and namespace: "
        r"give one of them another database, or another namespace\); it is tried again until it is there",
        line,
    )
    assert shared_server.command("KEYS", "*apart*") == []


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Shards that were kept away, once for each socket."""
    found: list[str] = []
    admit = Doors._admit

    async def note(self: Doors, place: Place, ask: Ask) -> None:
        try:
            await admit(self, place, ask)
        except Unavailable:
            found.append(place.name)
            raise

    monkeypatch.setattr(Doors, "_admit", note)
    return found


@pytest.fixture
def socket_and_server(tmp_path: Path) -> Iterator[tuple[Path, Server]]:
    """A server with a second address, which can be taken away, and led elsewhere."""
    socket = tmp_path / "socket"
    server = Server(tmp_path).start("--unixsocket", str(socket))
    yield socket, server
    server.kill()


async def test_shard_that_was_away_is_found_out_when_it_comes(
    socket_and_server: tuple[Path, Server], refused: list[str]
):
    socket, server = socket_and_server
    app, _ = app_of(server.url, f"unix://{socket}")
    away = socket.with_name("away")
    socket.rename(away)
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(app.serve)
        await until(lambda: processes(server) == 1)
        away.rename(socket)
        # The line that it is away has been written; what it was since then, and is now, is told by who is there.
        await trio.lowlevel.checkpoint()
        await until(
            lambda: int(str(server.command("INFO", "commandstats")).partition("cmdstat_exists:calls=")[2][:1] or 0)
        )
        assert processes(server) == 1
        assert not worker.stopping
        worker.stop()


async def test_shard_comes_back_when_its_address_leads_elsewhere_and_goes_when_it_leads_back(
    socket_and_server: tuple[Path, Server], refused: list[str], tmp_path: Path
):
    socket, server = socket_and_server
    (tmp_path / "other").mkdir()
    elsewhere = tmp_path / "other" / "socket"
    other = Server(tmp_path / "other").start("--unixsocket", str(elsewhere))
    app, ran = app_of(server.url, f"unix://{socket}", process_id="w1")
    socket.rename(back := socket.with_name("back"))
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(app.serve)
        await until(lambda: processes(server) == 1)
        socket.symlink_to(back)
        await until(lambda: refused)
        socket.unlink()
        socket.symlink_to(elsewhere)
        await until(lambda: processes(other) == 1)
        async with app.client() as client:
            await client.enqueue(*(Job("q", "A", [number]) for number in range(50)))
        await until(lambda: len(ran) == 50)
        refused.clear()
        socket.unlink()
        socket.symlink_to(back)
        other.kill()
        await until(lambda: refused)
        assert processes(server) == 1
        async with app.client() as client:
            await client.enqueue(*(Job("q", "A", [number]) for number in range(50, 100)))
        await until(lambda: len(ran) == 100)
        assert set(refused) == {"shard 'b'"}
        assert not worker.stopping
        worker.stop()
    assert sorted(ran) == list(range(100))


def place(name: str, connection: Connection, namespace: str = "") -> Place:
    return Place(name, connection.link.address, partial(connection.execute, "apart"), Keys(namespace))


async def test_other_database_of_one_server_is_apart(redis_url: str, alias: str):
    other = alias.rpartition("/")[0] + "/1"
    async with connect(redis_url, Link(redis_url)) as one, connect(other, Link(other)) as two:
        with trio.fail_after(30):
            assert not await is_same(place("a", one), place("b", two))
        assert await one.execute("test", "KEYS", "*") == []


async def test_replica_that_is_promoted_is_not_taken_for_the_other_shard(tmp_path: Path):
    """It has all that its old primary had, and under its name comes what the other shard's was."""
    servers = []
    for name in ("old", "new", "other"):
        (tmp_path / name).mkdir()
        servers.append(Server(tmp_path / name).start("--repl-diskless-sync-delay", "0"))
    old, new, other = servers
    try:
        new.command("REPLICAOF", "127.0.0.1", old.port)
        async with connect(old.url, Link(old.url)) as one, connect(other.url, Link(other.url)) as two:
            assert not await is_same(place("a", one), place("b", two))
            old.wait_replicated()
        new.command("REPLICAOF", "NO", "ONE")
        async with connect(new.url, Link(new.url)) as one, connect(old.url, Link(old.url)) as two:
            assert not await is_same(place("a", one), place("b", two))
            assert not await is_same(place("a", two), place("b", one))
    finally:
        for server in servers:
            server.kill()


def test_doctor_says_which_two(redis_url: str, alias: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twice_app.py").write_text(
        f"from trioworkers import App, Shard\napp = App(shards={{'a': Shard({redis_url!r}), 'b': Shard({alias!r})}})\n"
    )
    done = CliRunner().invoke(commands, ["doctor", "twice_app.py:app", "--json"])
    [found] = [each for each in json.loads(done.stdout) if each["check"] == "shards"]
    assert found["level"] == "problem"
    assert found["text"].startswith("shard 'a' (redis://")
    assert done.exit_code != 0
