"""The guard of a whole worker on a real Redis; what it knows neighbours by is told in the broker's tests."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest
import trio
from servers import Server

from trioworkers import App, ConfigurationError, Refused, SharedQueue

RUBY = json.dumps({"hostname": "h", "pid": 7, "queues": ["q"], "identity": "h:7:n"})


def app_at(url: str, **options: object) -> App:
    app = App(url, lease=0.6, **options)  # type: ignore[arg-type]

    @app.handler("q")
    async def known() -> None: ...

    return app


def enter(server: Server, name: str = "h:7:n") -> None:
    server.command("SADD", "processes", name)
    server.command("HSET", name, "info", RUBY, "quiet", "false", "beat", "1")
    server.command("EXPIRE", name, 60)


async def until_said(caplog: pytest.LogCaptureFixture, text: str) -> None:
    with trio.fail_after(60):
        while not any(text in message for message in caplog.messages):
            await trio.sleep(0.02)


async def test_strict_app_does_not_start_beside_another_kind(redis_url: str, shared_server: Server):
    enter(shared_server)
    with pytest.raises(SharedQueue, match=r"strict, so not started: .* Ruby Sidekiq h:7:n on q") as caught:
        await app_at(redis_url, strict=True).serve()
    assert isinstance(caught.value, Refused)
    assert shared_server.command("KEYS", "tw:*") == []  # it has claimed nothing


async def test_strict_app_stops_when_another_kind_comes_and_says_why(redis_url: str, shared_server: Server):
    async def serve(task_status: trio.TaskStatus[object]) -> None:
        with pytest.raises(SharedQueue, match="strict, so stopped"):
            await app_at(redis_url, strict=True).serve(task_status=task_status)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            enter(shared_server)
    assert shared_server.command("KEYS", "tw:lease:*") == []


async def test_others_say_it_when_they_come_and_when_they_go_and_not_between(
    redis_url: str, shared_server: Server, caplog: pytest.LogCaptureFixture
):
    enter(shared_server)
    with caplog.at_level(logging.WARNING, "trioworkers"):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app_at(redis_url).serve)
            await until_said(caplog, "Ruby Sidekiq h:7:n on q")
            enter(shared_server, "h:8:n")
            await until_said(caplog, "Ruby Sidekiq h:8:n on q")
            shared_server.command("DEL", "h:7:n", "h:8:n")
            await until_said(caplog, "no longer on our queues: Ruby Sidekiq h:7:n on q; Ruby Sidekiq h:8:n on q")
            worker.stop()
    said = [message for message in caplog.messages if "our queues" in message]
    assert len(said) == 3


async def test_strict_app_looks_twice_at_a_list_that_may_move(redis_url: str, shared_server: Server):
    shared_server.command("LPUSH", "queue:q:shop-1:inprogress", "a")

    async def work(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            shared_server.command("LPUSH", "queue:q:shop-1:inprogress", "a")
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        await nursery.start(work)
        with pytest.raises(SharedQueue, match="go-workers shop-1 on q"):
            await app_at(redis_url, strict=True).serve()
        nursery.cancel_scope.cancel()


async def test_a_sidekiq_is_no_neighbour_of_resques_queues(
    redis_url: str, shared_server: Server, caplog: pytest.LogCaptureFixture
):
    enter(shared_server)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app_at(redis_url, strict=True, dialect="resque").serve)
            worker.stop()
    assert "our queues" not in caplog.text


async def test_strict_app_does_not_start_beside_another_resque_on_its_resque_queue(
    redis_url: str, shared_server: Server
):
    shared_server.command("SADD", "resque:workers", "web-1:7:mail,q")
    shared_server.command("HSET", "resque:workers:heartbeat", "web-1:7:mail,q", datetime.now(UTC).isoformat())
    with pytest.raises(SharedQueue, match=r"strict, so not started: .* Resque web-1:7 on q"):
        await app_at(redis_url, strict=True, dialect="resque").serve()
    app = app_at(redis_url, strict=True)
    app.queue("other", dialect="resque")

    @app.handler("other")
    async def elsewhere() -> None: ...

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.serve)
            worker.stop()


def test_strict_is_a_yes_or_no():
    with pytest.raises(ConfigurationError, match="strict is True or False"):
        App(strict="yes")  # type: ignore[arg-type]
