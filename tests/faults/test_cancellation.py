"""Cancelled at every single await: of consumer, runner, settler, heartbeat, broker, fan-out, pool and client.

An instrument of Trio's looks where in our code each task has just suspended. A first run collects all such places; then, for each,
the same story is told again and cancelled at that very moment.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from servers import Server

import trioworkers
from trioworkers import App, Client, Context, Job, RetryAfter
from trioworkers.engine.worker import Worker
from trioworkers.http import Http, open_client

HOME = str(Path(trioworkers.__file__).parent)
Place = tuple[str, str, int]


class Moments(trio.abc.Instrument):
    """Counts where tasks suspend. The `nth` time that one does so at `place`, `act` is called."""

    def __init__(self, place: Place | None = None, nth: int = 1, act: Callable[[], None] = lambda: None) -> None:
        self.seen: Counter[Place] = Counter()
        self.acted = False
        self._place = place
        self._nth = nth
        self._act = act

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        innermost: Place | None = None
        for frame, line in task.iter_await_frames():
            if frame.f_code.co_filename.startswith(HOME):
                innermost = (frame.f_code.co_filename.removeprefix(HOME), frame.f_code.co_name, line)
        if innermost is None:
            return
        self.seen[innermost] += 1
        if not self.acted and innermost == self._place and self.seen[innermost] == self._nth:
            self.acted = True
            self._act()


def in_files(places: Counter[Place], *parts: str) -> list[tuple[Place, int]]:
    """Every place in these files, the first and the last time that a task came there."""
    chosen = [place for place in sorted(places) if any(part in place[0] for part in parts)]
    return [(place, nth) for place in chosen for nth in sorted({1, max(1, places[place] // 2)})]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a number is all we want


# ── a worker ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.define
class Story:
    """Twelve jobs of all kinds on a worker; `finished` are those that ran to their end."""

    server: Server
    finished: Counter[str] = attrs.field(factory=Counter)

    def app(self) -> App:
        app = App(self.server.url, shutdown_timeout=0.0, lease=1.0)
        app.queue("q", concurrency=3)

        @app.handler("q", "Plain")
        async def plain(ctx: Context) -> None:
            await trio.sleep(0.005)
            self.finished[ctx.job.jid] += 1

        @app.handler("q", "Fails", retry=0)
        async def fails(ctx: Context) -> None:
            await trio.lowlevel.checkpoint()
            raise ValueError("as asked")

        @app.handler("q", "Later")
        async def later(ctx: Context) -> None:
            raise RetryAfter(1000)

        @app.handler("q", "Parent")
        async def parent(ctx: Context) -> None:
            ctx.enqueue(Job("other", "Child", [], jid=f"{ctx.job.jid}-child"))
            await trio.sleep(0.001)
            self.finished[ctx.job.jid] += 1

        @app.handler("q", "Fan", timeout=5)
        async def fan(ctx: Context) -> None:
            async with ctx.fan_out(limit=1, checkpoint=True) as calls:
                calls.start("one", trio.sleep, 0.001)
                calls.start("two", trio.sleep, 0.001)
                await calls.checkpoint()
            await ctx.client.enqueue(Job("other", "Child", [], jid=f"{ctx.job.jid}-sent"))
            self.finished[ctx.job.jid] += 1

        return app

    def push(self) -> list[str]:
        kinds = ["Plain", "Fails", "Later", "Parent", "Fan", "Plain"] * 2
        jids = [f"{number}-{kind}" for number, kind in enumerate(kinds)]
        self.server.command("FLUSHALL")
        for jid, kind in zip(jids, kinds, strict=True):
            job = {"class": kind, "args": [], "jid": jid, "retry": kind == "Later"}
            self.server.command("LPUSH", "queue:q", json.dumps(job if kind == "Later" else {**job, "retry": 0}))
        return jids

    def places(self) -> Counter[str]:
        """How often each jid stands anywhere in Redis."""
        keys = self.server.command("KEYS", "*")
        assert isinstance(keys, list)
        found: Counter[str] = Counter()
        for key in keys:
            kind = self.server.command("TYPE", key)
            if kind in ("list", "zset"):
                members = self.server.command(*(("LRANGE", key, 0, -1) if kind == "list" else ("ZRANGE", key, 0, -1)))
                assert isinstance(members, list)
                found.update(json.loads(member)["jid"] for member in members)
        return found

    async def tell(self, moments: Callable[[Worker, trio.CancelScope], Moments], seconds: float) -> Moments:
        with trio.move_on_after(30) as patience:
            async with trio.open_nursery() as nursery:
                worker: Worker = await nursery.start(self.app().serve)
                instrument = moments(worker, nursery.cancel_scope)
                trio.lowlevel.add_instrument(instrument)
                with trio.move_on_after(seconds):
                    while not instrument.acted:
                        await trio.sleep(0.01)
                trio.lowlevel.remove_instrument(instrument)
                worker.stop(0)
        assert not patience.cancelled_caught, "the worker did not stop"
        return instrument


def stop(worker: Worker, scope: trio.CancelScope) -> None:
    worker.stop(0)


def cancel(worker: Worker, scope: trio.CancelScope) -> None:
    scope.cancel()


@pytest.mark.parametrize("how", [stop, cancel])
def test_worker_is_stopped_at_every_await(shared_server: Server, how: Callable[[Worker, trio.CancelScope], None]):
    story = Story(shared_server)
    story.push()
    seen = trio.run(story.tell, lambda worker, scope: Moments(), 2.0).seen  # long enough to wait for more
    places = in_files(seen, "/engine/", "/broker/", "/fan_out", "/client", "/context")
    assert {place[0].rpartition("/")[2] for place, _ in places} >= {
        "slots.py",
        "settler.py",
        "heartbeat.py",
        "epoch.py",
        "fan_out.py",
        "maintenance.py",
    }
    print(f"{len(places)} moments")
    files = open_files()
    for place, nth in places:
        story = Story(shared_server)
        jids = story.push()
        trio.run(story.tell, lambda worker, scope, p=place, n=nth: Moments(p, n, lambda: how(worker, scope)), 0.6)
        found = story.places()
        for jid in jids:
            assert found[jid] + story.finished[jid] == 1, (place, nth, jid, found, story.finished)
            if jid.endswith("Parent"):
                assert found[f"{jid}-child"] == story.finished[jid], (place, nth, jid)
        assert shared_server.command("KEYS", "*inprogress*") == [], (place, nth)
        assert open_files() == files, (place, nth)


def test_start_of_a_worker_is_cancelled_at_every_await(shared_server: Server):
    async def begin(story: Story, place: Place | None, nth: int) -> Moments:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                moments = Moments(place, nth, nursery.cancel_scope.cancel)
                trio.lowlevel.add_instrument(moments)
                await nursery.start(story.app().serve)
                trio.lowlevel.remove_instrument(moments)
                nursery.cancel_scope.cancel()
        return moments

    story = Story(shared_server)
    story.push()
    places = in_files(trio.run(begin, story, None, 1).seen, "/engine/", "/broker/", "/resources")
    assert len(places) > 5
    files = open_files()
    for place, nth in places:
        story = Story(shared_server)
        jids = story.push()
        trio.run(begin, story, place, nth)
        found = story.places()
        assert all(found[jid] + story.finished[jid] == 1 for jid in jids), (place, nth, found)
        assert shared_server.command("KEYS", "queue:*inprogress") == [], (place, nth)
        assert open_files() == files, (place, nth)


# ── a client ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def cancelled_at(story: Callable[[], Any], moments: Moments | None, scope: trio.CancelScope) -> None:
    with scope:
        if moments is not None:
            trio.lowlevel.add_instrument(moments)
        try:
            await story()
        finally:
            if moments is not None:
                trio.lowlevel.remove_instrument(moments)


async def test_client_is_cancelled_at_every_await(redis_url: str):
    async def story(client: Client) -> None:
        await client.enqueue(*[Job("q", "A", [n]) for n in range(2500)])
        await client.schedule(5, Job("q", "A", []))

    collected = Moments()
    async with Client(redis_url) as client:
        await story(client)  # a script's first call on a server takes a way of its own
        await cancelled_at(lambda: story(client), collected, trio.CancelScope())
    places = in_files(collected.seen, "/client", "/broker/")
    assert places
    for place, nth in places:
        scope = trio.CancelScope()
        async with Client(redis_url) as client:
            await cancelled_at(lambda c=client: story(c), Moments(place, nth, scope.cancel), scope)
            assert scope.cancelled_caught or "live" in place, (place, nth)
            with trio.fail_after(60):
                for _ in range(10):  # more than it has connections
                    await client.enqueue(Job("q", "A", ["after"]))


# ── a fan-out over HTTP ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def sink(nursery: trio.Nursery) -> str:
    """Answers every request, in two pieces, a moment apart."""

    async def answer(stream: trio.SocketStream) -> None:
        rest = b""
        while data := await stream.receive_some():
            rest += data
            while b"\r\n\r\n" in rest:
                _, _, rest = rest.partition(b"\r\n\r\n")
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
                await trio.sleep(0.002)
                await stream.send_all(b"cd")

    async def serve_one(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await answer(stream)

    listeners = await nursery.start(trio.serve_tcp, serve_one, 0)
    return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"


async def test_fan_out_is_cancelled_at_every_await(sink: str):
    from trioworkers.jobs.fan_out import open_fan_out  # noqa: PLC0415 - beside the only use
    from trioworkers.jobs.progress import Progress  # noqa: PLC0415 - as above

    async def story(http: httpx.AsyncClient) -> None:
        async with open_fan_out(http, "jid", Progress(), limit=None, timeout_s=5) as fan:
            for number in range(8):
                fan.get(f"call {number}", sink)

    collected = Moments()
    async with open_client(Http(max_connections=3)) as http:
        await cancelled_at(lambda: story(http), collected, trio.CancelScope())
    places = in_files(collected.seen, "/fan_out", "/http/")
    assert len(places) >= 4
    for place, nth in places:
        scope = trio.CancelScope()
        async with open_client(Http(max_connections=3)) as http:
            await cancelled_at(lambda h=http: story(h), Moments(place, nth, scope.cancel), scope)
            assert scope.cancelled_caught, (place, nth)
            assert "0 active" in repr(http._transport.inner), (place, nth)
            with trio.fail_after(60):
                await story(http)
