"""A worker's whole life with a little work of each kind: told again and again, each time with other trouble on the way to Redis."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import attrs
import trio
from command_proxy import CommandProxy, Harm
from harness import Jobs
from servers import Server

import trioworkers.sync
from trioworkers import App, Context, FleetLimit, Job, RateLimited, RetryAfter, Unique, chain
from trioworkers.engine.worker import Worker
from trioworkers.errors import BrokerError

PATIENCE_S = 100.0
TICKS = 2
SENT = "-sent"
"""What a job sends at once it sends again if it runs again."""


@attrs.frozen
class Spoken:
    """A queue in a dialect: what its keys begin with, and how the registry of in-progress lists calls the dialect."""

    queue: str
    dialect: str
    prefix: str = ""
    mark: str = ""

    def left_by(self, process_id: str) -> tuple[str, str]:
        """The in-progress list of a worker, and what the registry says of it."""
        entry = f"{process_id} {self.queue}{self.mark}"
        return f"{self.prefix}queue:{self.queue}:{process_id}:inprogress", entry


DIALECTS = (
    Spoken("q", "sidekiq"),
    Spoken("r", "resque", "resque:", " resque:resque"),
    Spoken("g", "goworkers", mark=" goworkers:"),
)

OF_RESQUE = {"resque:queues", "resque:stat:processed", "resque:stat:failed"}
"""What stays of Resque's when all is done, as elsewhere `queues` and statistics."""


@contextmanager
def trying_again() -> Iterator[None]:
    """What a job itself asks of Redis may fail: it runs again, soon."""
    try:
        yield
    except BrokerError:
        raise RetryAfter(0.05) from None


class Story:
    """Some jobs of each kind on one worker, which sees Redis through `proxy`. `ended`: how often each came to its end; `ticks`: how often each tick did."""

    def __init__(self, proxy: CommandProxy, server: Server) -> None:
        self.proxy, self.server = proxy, server
        self.ended: Counter[str] = Counter()
        self.ticks: Counter[datetime] = Counter()
        self.app = app = App(proxy.url, process_id="w", lease=20.0, shutdown_timeout=20.0)
        limit = FleetLimit("few", concurrency=2)
        app.queue("q", concurrency=5)
        app.queue("limited", concurrency=3, limit=FleetLimit(concurrency=1))
        app.capsule("shared", concurrency=4, queues={"a": 3, "b": 1})
        for queue in ("q", "limited", "a", "b"):
            app.handler(queue, "Plain", keep_result=60)(self._plain)
        app.handler("q", "Limited", limit=limit)(self._plain)
        app.handler("q", "Closing", limit=limit)(self._closing)
        app.handler("b", "Told")(self._told)
        for each in DIALECTS:
            if each.dialect != "sidekiq":
                app.queue(each.queue, dialect=each.dialect, concurrency=2)
            app.handler(each.queue, "Told")(self._told)
            app.handler(each.queue, "AgainTold", retry=5)(self._again_told)
            app.handler(each.queue, "Relay")(self._relay)
        app.handler("q", "Again")(self._again)
        app.handler("q", "Parent")(self._parent)
        app.handler("q", "Sender")(self._sender)
        app.handler("q", "Long")(self._long)
        app.handler("q", "Within")(self._within)
        app.periodic("@every 1s", missed="all")(app.handler("q", "Tick")(self._tick))
        self.unique = app.handler("a", "Unique", unique=Unique(by="number"))(self._unique)

    async def _plain(self, ctx: Context) -> None:
        await trio.sleep(0.001)
        self.ended[ctx.job.jid] += 1

    async def _told(self, ctx: Context, of_what: str) -> None:
        del ctx
        self.ended[of_what] += 1

    async def _again_told(self, ctx: Context, of_what: str) -> None:
        if ctx.attempt == 1:
            raise RetryAfter(0.05)
        self.ended[of_what] += 1

    async def _relay(self, ctx: Context, of_what: str) -> None:
        """Into each dialect, from each."""
        ctx.enqueue(*[Job(to.queue, "Told", [f"{of_what}-{to.dialect}"]) for to in DIALECTS])

    async def _unique(self, ctx: Context, number: int) -> None:
        del number
        self.ended[ctx.job.jid] += 1

    async def _again(self, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise RetryAfter(0.05)
        self.ended[ctx.job.jid] += 1

    async def _closing(self, ctx: Context) -> None:
        if not self.ended["closed"]:
            self.ended["closed"] = 1
            raise RateLimited(0.1)
        self.ended[ctx.job.jid] += 1

    async def _parent(self, ctx: Context) -> None:
        ctx.enqueue(Job("b", "Plain", [], jid=f"{ctx.job.jid}-child"))
        self.ended[ctx.job.jid] += 1

    async def _sender(self, ctx: Context) -> None:
        with trying_again():
            await ctx.client.enqueue(Job("b", "Told", [f"{ctx.job.jid}{SENT}"]))
        self.ended[ctx.job.jid] += 1

    async def _long(self, ctx: Context) -> None:
        async def charge() -> int:
            return 7

        async def numbers(after: int | None):
            for number in range((after or 0) + 1, 4):
                yield number, number

        with trying_again():
            assert await ctx.step("charge", charge) == 7
            ctx.progress(1, 2, "half of it")
            async for _ in ctx.iterate("numbers", numbers, every=1):
                await trio.lowlevel.checkpoint()
        self.ended[ctx.job.jid] += 1

    async def _within(self, ctx: Context) -> None:
        with trying_again():
            async with ctx.limit(FleetLimit("within", concurrency=1)):
                await trio.lowlevel.checkpoint()
        self.ended[ctx.job.jid] += 1

    async def _tick(self, ctx: Context) -> None:
        assert ctx.tick is not None
        self.ticks[ctx.tick] += 1

    def push(self) -> set[str]:
        """Enqueue some of each, past the proxy. Which shall end."""
        with trioworkers.sync.Client(self.server.url) as client:
            sent = client.enqueue(*[Job(queue, "Plain", []) for queue in ("q", "limited", "a", "b") for _ in range(3)])
            sent += client.enqueue(
                *[Job("q", kind, []) for kind in ("Limited", "Closing", "Again", "Long", "Within") * 2]
            )
            parents = client.enqueue(*[Job("q", "Parent", []) for _ in range(2)])
            senders = client.enqueue(*[Job("q", "Sender", []) for _ in range(2)])
            sent += [
                each for each in client.enqueue(*[self.unique.job(1) for _ in range(3)]) if each.duplicate_of is None
            ]
            sent += client.schedule(0.1, Job("q", "Plain", []), Job("b", "Plain", []))
            members = [Job(queue, "Plain", [], runs_here=True) for queue in "qa"]
            followed = chain(*members, on_success=Job("b", "Told", ["batch"]))
            sent += client.enqueue(followed)
        left = [json.dumps({"class": "Plain", "args": [], "jid": f"left{n}", "retry": True}) for n in range(2)]
        self.server.command("LPUSH", "queue:q:w:inprogress", *left)  # by this worker's last life
        spoken = {name for each in DIALECTS for name in self._push_in(each)}
        sent += [*parents, *senders, *(f"{jid}-child" for jid in parents), *(f"{jid}{SENT}" for jid in senders)]
        return {*map(str, sent), *spoken, "batch", "left0", "left1"} - {followed.id}

    def _push_in(self, spoken: Spoken) -> list[str]:
        """Some in a dialect, new, due soon, and of workers that died: this one's last life and another's. What is told of when they end."""
        name, queue = spoken.dialect, spoken.queue
        with trioworkers.sync.Client(self.server.url, dialect=name) as client:
            client.enqueue(Job(queue, "Told", [f"{name}-new"]), Job(queue, "AgainTold", [f"{name}-again"]))
            client.enqueue(Job(queue, "Relay", [f"{name}-relay"]))
            client.schedule(0.1, Job(queue, "Told", [f"{name}-due"]))
        for process_id in ("w", "gone"):
            key, entry = spoken.left_by(process_id)
            told = {"class": "Told", "args": [f"{name}-of-{process_id}"], "jid": f"{name}-{process_id}", "queue": queue}
            self.server.command("LPUSH", key, json.dumps(told))
            self.server.command("HSET", "tw:inprogress", key, entry)
        ends = ["new", "again", "due", "of-w", "of-gone", *(f"relay-{to.dialect}" for to in DIALECTS)]
        return [f"{name}-{end}" for end in ends]

    async def run(self, expected: set[str], harm: Harm, *, from_the_start: bool = True) -> None:
        """The worker's whole life, until all have ended. `harm` is done from its start on, or once it has started."""
        self.proxy.harm = harm if from_the_start else self.proxy.harm
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                worker: Worker = await nursery.start(self.app.serve)
                self.proxy.harm = harm
                while (
                    not expected <= self.ended.keys() or len(self.ticks) < TICKS or any(worker.stats().running.values())
                ):
                    assert not worker.stopping, worker.stopped_for
                    await trio.sleep(0.02)
                worker.stop()

    def left(self, folder: Path) -> set[str]:
        """Keys that have no reason to be there."""
        left = Jobs(self.server, folder).unexplained_keys() - OF_RESQUE
        return {key for key in left if not self._may_wait_in(key)}

    def _may_wait_in(self, key: str) -> bool:
        """Whether all that lies there may have come while the worker was being stopped: a tick, and what a job has sent again."""
        if key not in ("queue:q", "queue:b"):
            return False
        waiting = self.server.command("LRANGE", key, 0, -1)
        assert isinstance(waiting, list)
        jobs = map(json.loads, waiting)
        return all(job["class"] == "Tick" or (job["class"] == "Told" and job["args"][0].endswith(SENT)) for job in jobs)
