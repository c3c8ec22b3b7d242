"""Whatever a job holds is given back, in whichever way it ends: each job here holds everything of which there is one alone, and the next job wants all of that, too.

It is a slot of its queue, two permits, a lock, the process to compute in, a call of the host that takes one at a time with its connection, and a thread.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import trio
from servers import Server

from trioworkers import App, Bury, Context, Discard, FleetLimit, Http, Job, Limit, RateLimited, RetryAfter, Unique

CRM, DB = FleetLimit("crm", concurrency=1), FleetLimit("db", concurrency=1)
End = Callable[[Context], Awaitable[None]]


def add(a: int, b: int) -> int:
    return a + b


async def raises(error: Exception, _: Context) -> None:
    raise error


async def succeeds(_: Context) -> None: ...


async def waits(_: Context) -> None:
    await trio.sleep_forever()


async def opens_a_nursery_that_fails(_: Context) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits, _)
        nursery.start_soon(raises, ValueError("no"), _)


async def is_in_an_iteration(ctx: Context) -> None:
    async def rows(cursor: int | None) -> AsyncIterator[tuple[int, int]]:
        for number in range(cursor or 0, 10**9):
            yield number + 1, number
            await trio.sleep(0.01)

    async for _ in ctx.iterate("rows", rows):
        pass


async def is_in_a_step(ctx: Context) -> None:
    await ctx.step("long", waits, ctx)


async def computes(ctx: Context) -> None:
    await ctx.run_cpu(trio.run, trio.sleep_forever)


async def computes_and_that_process_dies(ctx: Context) -> None:
    await ctx.run_cpu(os._exit, 3)


AT_A_STOP = {
    "put back at a stop": waits,
    "an iteration is cut at a stop": is_in_an_iteration,
    "a step is cut at a stop": is_in_a_step,
    "a computation is cut at a stop": computes,
}
ENDS: dict[str, End] = {
    "success": succeeds,
    "failure": partial(raises, ValueError("no")),
    "retry": partial(raises, RetryAfter(0.05)),
    "burial": partial(raises, Bury("no")),
    "discard": partial(raises, Discard("no")),
    "parked by a limit": partial(raises, RateLimited(retry_after=0.05)),
    "no attempt is left": partial(raises, KeyError("no")),
    "end of a program": partial(raises, SystemExit(3)),  # type: ignore[arg-type]
    "timeout": waits,
    "timeout of a computation": computes,
    "a nursery of its own fails": opens_a_nursery_that_fails,
    "its computing process dies": computes_and_that_process_dies,
    **AT_A_STOP,
}
TRIED_AGAIN = {"failure", "end of a program", "a nursery of its own fails", "its computing process dies"}
TRIED_AGAIN |= {"timeout", "timeout of a computation"}
"""Later than this test lasts."""


class Host:
    """An HTTP server that never answers. `open`: how many of its connections are; `calls`: how many it has heard."""

    open = calls = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.open += 1
        try:
            while data := await stream.receive_some():
                self.calls += data.count(b"GET /")
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1


class Everything:
    """The app; what ran is in `ran`, in this order."""

    def __init__(self, url: str, end: End, host: Host, port: int, *, is_stopped: bool, has_timeout: bool) -> None:
        http = Http(limits={"*": Limit(concurrency=1)}, max_connections=1)
        self.app = App(url, shutdown_timeout=0.2 if is_stopped else 20, cpu_processes=1, http=http, lease=6)
        self.app.queue("q", concurrency=1)
        self.holds_all = trio.Event()
        self.ran: list[str] = []
        self._end, self._host, self._url = end, host, f"http://127.0.0.1:{port}/"
        unique = Unique(until="done", by="name", on_conflict="skip")
        self.app.handler("q", "All", unique=unique, limit=CRM)(self.all)
        self.app.handler("q", "Ends", unique=unique, limit=CRM, timeout=10 if has_timeout else None)(self.all)

    async def all(self, ctx: Context, name: str, ends: bool) -> None:
        async with ctx.limit(DB):
            assert await ctx.run_cpu(add, 1, 2) == 3
            async with trio.open_nursery() as nursery:
                calls = self._host.calls
                nursery.start_soon(self._call, ctx)
                while self._host.calls == calls:
                    await trio.sleep(0.01)
                await trio.to_thread.run_sync(len, "a thread")
                if ends and name not in self.ran:
                    self.ran.append(name)
                    self.holds_all.set()
                    await self._end(ctx)
                else:
                    self.ran.append(f"{name} again" if name in self.ran else name)
                nursery.cancel_scope.cancel()

    async def _call(self, ctx: Context) -> None:
        await ctx.http.get(self._url)

    def job(self, name: str, *, ends: bool = False, retry: int | bool = True) -> Job:
        return Job("q", "Ends" if ends else "All", [name, ends], retry=retry)


@pytest.mark.parametrize("how", ENDS)
async def test_next_job_has_all_that_this_one_had(redis_url: str, shared_server: Server, how: str):
    host = Host()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, host.serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        things = Everything(redis_url, ENDS[how], host, port, is_stopped=how in AT_A_STOP, has_timeout="timeout" in how)
        with trio.fail_after(120):
            worker = await nursery.start(things.app.serve)
            async with things.app.client() as client:
                await client.enqueue(things.job("zeroth"))
                while (
                    "zeroth" not in things.ran
                ):  # the computing process is there: on a busy machine that may take a timeout
                    await trio.sleep(0.01)
                retry = 0 if how == "no attempt is left" else True
                await client.enqueue(things.job("first", ends=True, retry=retry))
                await things.holds_all.wait()
                if how in AT_A_STOP:
                    worker.stop()
                    worker = await nursery.start(things.app.serve)
                await client.enqueue(things.job("second"))
                while "second" not in things.ran:
                    await trio.sleep(0.01)
                if how in AT_A_STOP or how in ("retry", "parked by a limit"):
                    while "first again" not in things.ran:
                        await trio.sleep(0.01)
                await client.enqueue(things.job("third"))
                while "third" not in things.ran:
                    await trio.sleep(0.01)
            await until_nothing_is_held(shared_server, lock_of_retry=how in TRIED_AGAIN)
            worker.stop()
        nursery.cancel_scope.cancel()


async def until_nothing_is_held(server: Server, *, lock_of_retry: bool) -> None:
    """But for the lock of a job that waits for its next attempt."""
    while server.command("KEYS", "tw:permits:*") or server.command("KEYS", "tw:holds:*"):
        await trio.sleep(0.01)
    while int(str(server.command("HLEN", "tw:unique"))) != lock_of_retry:
        await trio.sleep(0.01)
