"""Two shards that are one database, at two addresses: found out at run time, and refused. What only looks like it isn't."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from servers import Server

from trioworkers import App, ConfigurationError, Shard, Worker
from trioworkers.broker.apart import Place, check_places, is_same
from trioworkers.broker.redis.connection import connect
from trioworkers.broker.redis.link import Link
from trioworkers.cli.commands import app as commands
from trioworkers.wire.keys import Keys


@pytest.fixture
def alias(redis_url: str) -> str:
    """The same database, at an address that no comparison of texts recognises."""
    return redis_url.replace("127.0.0.1", "127.1")


def app_of(a: str, b: str, namespace: str = "") -> App:
    app = App(shards={"a": Shard(a), "b": Shard(b, namespace=namespace)}, shutdown_timeout=1.0)

    async def nothing() -> None: ...

    app.queue("q", shards=["a", "b"])
    app.handler("q", "A")(nothing)
    return app


async def test_worker_refuses_two_addresses_of_one_database(
    redis_url: str, alias: str, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(
        ConfigurationError, match=r"shard 'a' \(redis://.*\) and shard 'b' \(redis://.*\) are the same database"
    ):
        with trio.fail_after(30):
            await app_of(redis_url, alias).serve()
    [line] = [record.getMessage() for record in caplog.records if "same database" in record.getMessage()]
    assert "\n" not in line
    assert "give one of them another database, or another namespace" in line


async def test_shard_that_was_away_is_found_out_when_it_comes(tmp_path: Path):
    socket, away = tmp_path / "socket", tmp_path / "away"
    server = Server(tmp_path).start("--unixsocket", str(socket))
    raised: list[Exception] = []

    async def serve(*, task_status: trio.TaskStatus[Worker]) -> None:
        try:
            await app_of(server.url, f"unix://{socket}").serve(task_status=task_status)
        except ConfigurationError as error:
            raised.append(error)

    socket.rename(away)
    async with trio.open_nursery() as nursery:
        worker: Worker = await nursery.start(serve)
        assert not worker.stopping
        away.rename(socket)
        with trio.fail_after(60):
            await worker.gone.wait()
    server.kill()
    assert len(raised) == 1


@pytest.mark.parametrize("what", ["another namespace", "another database"])
async def test_other_namespaces_and_databases_of_one_server_are_apart(redis_url: str, alias: str, what: str):
    other = alias.rpartition("/")[0] + "/1" if what == "another database" else alias
    async with connect(redis_url, Link(redis_url)) as one, connect(other, Link(other)) as two:
        places = [Place("a", one, Keys()), Place("b", two, Keys("n" if what == "another namespace" else ""))]
        with trio.fail_after(30):
            await check_places(places)
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
            assert not await is_same(Place("a", one, Keys()), Place("b", two, Keys()))
            old.wait_replicated()
        new.command("REPLICAOF", "NO", "ONE")
        async with connect(new.url, Link(new.url)) as one, connect(old.url, Link(old.url)) as two:
            assert not await is_same(Place("a", one, Keys()), Place("b", two, Keys()))
            assert not await is_same(Place("a", two, Keys()), Place("b", one, Keys()))
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
