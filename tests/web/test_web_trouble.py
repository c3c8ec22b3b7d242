"""Every page over a Redis that is away, frozen, slow, full, a replica, or whose user may do little: the cause in words, in bounded time; and the worker works on."""

from __future__ import annotations

import html
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import trio
from servers import Server
from visiting import HERE, PAGES, failed, get, payload, reachable, visiting

from trioworkers import App, Client, Context
from trioworkers.chosen_redis import ChosenRedis
from trioworkers.web import application, asgi, site
from trioworkers.web.serving import Serving, beside

MORE = ("/rates.svg", "/waiting.svg", "/metrics", "/job?jid=aaaaaaaa", "/batch?id=x", "/payload?jid=abcdef12")
EVERY = (*PAGES, *MORE)
DELAY_S = 0.02


@pytest.fixture
def filled(server: Server) -> Server:
    server.command("SADD", "queues", "default")
    server.command("LPUSH", "queue:default", payload(1))
    server.command("ZADD", "dead", 1, failed(2))
    return server


def words(answer: httpx.Response) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", answer.text))


async def look(visitor: httpx.AsyncClient, path: str) -> tuple[int, str]:
    with trio.fail_after(60):  # a page has 8 s; the machine may be busy
        answer = await visitor.get(path)
    text = words(answer)
    assert "our own mistake" not in text, (path, text)
    assert "Traceback" not in text, (path, text)
    return answer.status_code, text


async def press(visitor: httpx.AsyncClient) -> str:
    """Pause a queue; what is said of it where one comes to."""
    pressed = await visitor.post("/do/pause", data={"queue": "default", "back": "/done"})
    return (await look(visitor, pressed.headers["location"]))[1]


async def test_full_pages_are_shown_and_the_first_says_why_nothing_can_be_written(filled: Server):
    filled.command("CONFIG", "SET", "maxmemory", "1")
    async with visiting(asgi(filled.url), headers=HERE) as visitor:
        for path in EVERY:
            assert (await look(visitor, path))[0] == 200, path
        assert re.search(r"Redis is [\d,]+% full: at maxmemory it takes no more jobs", (await look(visitor, "/"))[1])
        assert "OOM" in await press(visitor)


async def test_replica_pages_are_shown_and_the_first_says_what_it_is(filled: Server):
    filled.command("REPLICAOF", "127.0.0.1", "1")
    async with visiting(asgi(filled.url), headers=HERE) as visitor:
        for path in EVERY:
            assert (await look(visitor, path))[0] == 200, path
        assert "this is a replica: it takes no writes" in (await look(visitor, "/"))[1]
        assert "read only replica" in (await press(visitor)).replace("read-only", "read only").lower()


@pytest.mark.parametrize("may", [(), ("+@read", "+time")], ids=["nothing", "read"])
async def test_a_user_who_may_not_reads_which_command(filled: Server, may: tuple[str, ...]):
    filled.command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "+ping", "+hello", "+select", "+client", *may)
    url = filled.url.replace("redis://", "redis://poor:pw@")
    async with visiting(asgi(url), headers=HERE) as visitor:
        for path in EVERY:
            status, text = await look(visitor, path)
            if path not in ("/done", "/search?q=sync"):
                assert status in (502, 200), path
                assert (status == 200 and may) or "no permissions" in text or "not be checked" in text, (path, text)
        assert "no permissions to run the 'sadd' command" in await press(visitor)
        assert "pw" not in (await visitor.get("/")).text.replace("<pw", "")


async def test_away_and_back(filled: Server):
    async with visiting(asgi(filled.url), headers=HERE) as visitor:
        filled.kill()
        for path in EVERY:
            if path != "/done":
                status, text = await look(visitor, path)
                assert status in (503, 200), path
                assert "connection refused" in text, (path, text)
        assert "connection refused" in await press(visitor)
        filled.start()
        assert (await look(visitor, "/"))[0] == 200


async def test_frozen_each_page_gives_up_in_time(filled: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(site, "REPLY_TIMEOUT_S", 0.3)
    monkeypatch.setattr(application, "PAGE_S", 1.5)
    async with visiting(asgi(filled.url), headers=HERE) as visitor:
        process: Any = filled._process
        os.kill(process.pid, signal.SIGSTOP)
        try:
            found: dict[str, tuple[int, str]] = {}

            async def one(path: str) -> None:
                found[path] = await look(visitor, path)

            async with (
                trio.open_nursery() as nursery
            ):  # more at once than pages may ask at once: those that wait give up, too
                for path in EVERY:
                    nursery.start_soon(one, path)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        for path, (status, text) in found.items():
            if path != "/done":
                assert status in (503, 504, 200), (path, status)
                assert "no answer from Redis" in text or "took longer than" in text, (path, text)
        with trio.fail_after(60):  # by these bounds a busy machine may take too long as well
            while (await look(visitor, "/"))[0] != 200:
                pass


@asynccontextmanager
async def slow(server: Server) -> AsyncIterator[str]:
    """The address of something through which each answer comes late."""
    port = int(server.url.rpartition(":")[2].partition("/")[0])

    async def between(ours: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as theirs, trio.open_nursery() as nursery:

            async def pass_on(source: trio.SocketStream, target: trio.SocketStream, delay_s: float) -> None:
                try:
                    async for part in source:
                        await trio.sleep(delay_s)
                        await target.send_all(part)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(pass_on, ours, theirs, 0.0)
            nursery.start_soon(pass_on, theirs, ours, DELAY_S)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, between, 0)
        yield f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}/0"
        nursery.cancel_scope.cancel()


async def test_slow_pages_are_shown(filled: Server):
    async with slow(filled) as url, visiting(asgi(url), headers=HERE) as visitor:
        found: dict[str, int] = {}

        async def one(path: str) -> None:
            found[path] = (await look(visitor, path))[0]

        async with trio.open_nursery() as nursery:
            for path in EVERY:
                nursery.start_soon(one, path)
        assert set(found.values()) <= {200, 504}
        assert found["/"] in (200, 504)


async def test_pages_that_wait_for_a_frozen_redis_cost_the_worker_beside_them_nothing(filled: Server, redis_url: str):
    """The dashboard of a Redis that is frozen, in the process of a worker of another one."""
    app = App(redis_url)
    app.queue("q")
    done = []

    @app.handler("q", "Note")
    async def note(_: Context, number: int) -> None:
        done.append(number)

    serving = Serving("127.0.0.1:0")
    listener = serving.listen()
    root = f"http://127.0.0.1:{listener.getsockname()[1]}"
    process: Any = filled._process
    with beside(serving.application(ChosenRedis(filled.url, "", "a test")), listener):
        with trio.fail_after(30):
            while not await trio.to_thread.run_sync(reachable, f"{root}/"):
                await trio.sleep(0.05)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(app.serve)
                for path in ("/", "/dead", "/limits", "/doctor"):
                    nursery.start_soon(trio.to_thread.run_sync, _try, root + path)
                async with Client(redis_url) as client:
                    for number in range(50):
                        await client.enqueue(note.job(number))
                with trio.fail_after(60):
                    while len(done) < 50:
                        await trio.sleep(0.01)
                assert worker.health().ready
                worker.stop()
        finally:
            os.kill(process.pid, signal.SIGCONT)


def _try(url: str) -> None:
    with suppress(OSError):  # an HTTP status that is none of success
        get(url)


async def test_a_page_that_takes_too_long_says_so_where_it_has_got_to(filled: Server, monkeypatch: pytest.MonkeyPatch):
    """It isn't broken off in the middle: its head was out long before."""

    async def rendered(*_: Any) -> AsyncIterator[str]:
        yield "<p>its beginning</p>"
        await trio.sleep_forever()

    monkeypatch.setattr(application, "rendered", rendered)
    monkeypatch.setattr(application, "PAGE_S", 0.3)
    async with visiting(asgi(filled.url), headers=HERE) as visitor:
        found = await visitor.get("/dead")
    assert found.status_code == 200
    assert "its beginning" in found.text
    assert "it took longer than" in found.text
    assert found.text.rstrip().endswith("</html>")
