"""`watch`, `result` and `finished`, with a real worker on a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from servers import Server

from trioworkers import App, Bury, Client, Context, JobFailed
from trioworkers.cli import ended_jobs
from trioworkers.cli.commands import app as commands
from trioworkers.errors import NotFound

Ask = Callable[..., Any]


@pytest.fixture
def ask(server: Server) -> Ask:
    async def run(*words: str) -> Any:
        command = partial(CliRunner().invoke, commands, [*words, "--redis", server.url])
        return await trio.to_thread.run_sync(command)

    return run


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[Client]:
    async with app.client() as client, trio.open_nursery() as nursery:
        await nursery.start(app.serve)
        yield client
        nursery.cancel_scope.cancel()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `watch` has seen so far."""
    found: list[Any] = []
    look_at = ended_jobs.look_at

    async def noted(*args: Any) -> Any:
        found.append(await look_at(*args))
        return found[-1]

    monkeypatch.setattr(ended_jobs, "look_at", noted)
    return found


async def test_bar_ends_with_its_job(server: Server, ask: Ask, looks: list[Any]):
    app, may_end = App(server.url), trio.Event()

    @app.handler("q")
    async def works(ctx: Context, well: int) -> None:
        ctx.progress(450, 1000, "\x1b[31mhalf")
        await may_end.wait()
        ctx.progress(1000, 1000, "all")
        if not well:
            raise Bury("broken")

    async with serving(app) as client:
        good, bad = await client.enqueue(works.job(1), works.job(0))
        for jid in (good, bad):
            while not server.command("EXISTS", f"tw:progress:{jid}"):
                await trio.sleep(0.02)

        async def end_soon() -> None:
            while not any(told for told, _ in looks):
                await trio.sleep(0.02)
            may_end.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_soon)
            done = await ask("watch", good[:8])
        assert done.exit_code == 0
        assert f"{good} succeeded" in done.stdout
        assert "45%  450/1,000" in done.stdout
        assert "100%  1,000/1,000" in done.stdout
        assert "\x1b" not in done.stdout
        failed = await ask("watch", bad)
        assert failed.exit_code == 1
        assert isinstance(failed.exception, JobFailed)
        late = await ask("watch", good, "--json")
        assert json.loads(late.stdout) == {"jid": good, "at": 1000, "total": 1000, "message": "all", "how": "succeeded"}


async def test_result_and_who_has_none(server: Server, ask: Ask):
    app, may_end = App(server.url), trio.Event()

    @app.handler("q", keep_result=60)
    async def adds(a: int, b: int) -> dict[str, int]:
        await may_end.wait()
        return {"sum": a + b}

    @app.handler("q", keep_result=60)
    async def dies() -> None:
        raise Bury("broken")

    async with serving(app) as client:
        sum_, dead = await client.enqueue(adds.job(1, 2), dies.job())
        while server.command("LLEN", "queue:q"):
            await trio.sleep(0.01)
        early = await ask("result", sum_[:10])
        assert isinstance(early.exception, NotFound)
        assert f"no result of job {sum_} is kept; it is running on" in str(early.exception)
        may_end.set()
        assert json.loads((await ask("result", sum_, "--wait", "60")).stdout) == {"sum": 3}
        failed = await ask("result", dead, "--wait", "60")
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert isinstance(failed.exception, JobFailed)
        assert "nowhere" in str((await ask("result", "nobody")).exception)


async def test_ends_of_a_class(server: Server, ask: Ask):
    app = App(server.url)

    @app.handler("q", "Kept", keep_finished=3, keep_result=60)
    async def kept(number: int) -> None:
        if number == 4:
            raise Bury("broken")

    async with serving(app) as client:
        for number in range(5):
            (sent,) = await client.enqueue(kept.job(number))
            while server.command("EXISTS", f"tw:result:{sent}") == 0:
                await trio.sleep(0.01)
        assert (await ask("finished")).stdout == "Kept\n"
        rows = [json.loads(line) for line in (await ask("finished", "Kept", "--json")).stdout.splitlines()]
        assert [row["how"] for row in rows] == ["dead", "succeeded", "succeeded"]
        assert rows[0]["jid"] == sent
        assert "nothing is kept of how jobs of Other ended" in (await ask("finished", "Other")).output
        server.command("DEL", "tw:finished:Kept")
        assert "no class keeps" in (await ask("finished")).output
        assert server.command("EXISTS", "tw:finished") == 0


async def test_job_that_tells_nothing_is_watched_until_it_is_over(server: Server, ask: Ask, looks: list[Any]):
    server.command("LPUSH", "queue:q", '{"class":"A","args":[],"jid":"quiet","queue":"q"}')
    server.command("SADD", "queues", "q")
    async with trio.open_nursery() as nursery:
        found: list[Any] = []

        async def watch() -> None:
            found.append(await ask("watch", "quiet"))

        nursery.start_soon(watch)
        while not looks:
            await trio.sleep(0.02)
        server.command("DEL", "queue:q")
    # It may have been gone before the first look through all places.
    assert "is over" in found[0].stdout or "no job quiet" in str(found[0].exception)


async def test_job_that_is_dead_and_tells_nothing_is_watched_no_longer(
    server: Server, ask: Ask, looks: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ended_jobs, "FIRST_PAUSE_S", 0.02)
    dead = {"class": "A", "args": [], "jid": "quiet", "queue": "q", "error_class": "X", "error_message": "no\nway"}
    server.command("ZADD", "dead", 5, json.dumps(dead))
    with trio.fail_after(60):
        watched = await ask("watch", "quiet")
    assert isinstance(watched.exception, JobFailed)
    assert "job quiet is dead: X: no" in str(watched.exception)
    server.command("ZADD", "retry", 5, json.dumps(dead))  # whose copy was tried again: that one has not ended
    async with trio.open_nursery() as nursery:
        found: list[Any] = []

        async def watch() -> None:
            found.append(await ask("watch", "quiet"))

        nursery.start_soon(watch)
        seen = len(looks)
        while len(looks) < seen + 5:
            await trio.sleep(0.02)
        assert found == []
        server.command("DEL", "retry")
    assert isinstance(found[0].exception, JobFailed)
