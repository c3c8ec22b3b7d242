"""The virtual clock of `testing.run` and what takes real time: it does not run ahead of that."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from trioworkers import App, Context, testing


async def computes(ctx: Context) -> None:
    await ctx.run_cpu(time.sleep, 0.3)


async def waits_for_a_thread(ctx: Context) -> None:
    await trio.to_thread.run_sync(time.sleep, 0.3, abandon_on_cancel=True)


async def calls(ctx: Context) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await trio.to_thread.run_sync(
            time.sleep, 0.1, limiter=trio.CapacityLimiter(1)
        )  # one of its own: nobody sees it
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer, 0)
        await ctx.http.get(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
        nursery.cancel_scope.cancel()


async def run(job: Callable[[Context], Awaitable[None]], timeout_s: float) -> tuple[testing.RunningApp, float]:
    app = App()

    @app.handler("q", timeout=timeout_s)
    async def handler(ctx: Context) -> None:
        await job(ctx)

    @app.handler("other")
    async def naps(ctx: Context) -> None:
        await trio.sleep(7200)

    async with testing.run(app) as test:
        began_at = trio.current_time()
        await test.enqueue(handler.job(), handler.job(), naps.job())
        await test.drain()
        return test, trio.current_time() - began_at


@pytest.mark.parametrize("job", [computes, waits_for_a_thread, calls])
async def test_timeout_does_not_end_what_takes_less_real_time(
    autojump_clock: object, job: Callable[[Context], Awaitable[None]]
):
    before = time.monotonic()
    test, elapsed = await run(job, timeout_s=30)
    assert (test.retries, test.dead, test.completed) == ([], [], 3)
    assert 7200 <= elapsed < 7230  # and for what sleeps it jumped, in the end
    assert time.monotonic() - before < 600


async def test_timeout_ends_what_takes_longer(autojump_clock: object):
    async def forever(ctx: Context) -> None:
        await ctx.run_cpu(time.sleep, 600)

    test, _ = await run(forever, timeout_s=0.2)
    assert len(test.retries) == 2


async def test_clock_of_the_test_is_as_it_was_afterwards(mock_clock: MockClock):
    app = App()

    @app.handler("q")
    async def handler(ctx: Context) -> None:
        await trio.to_thread.run_sync(time.sleep, 0.01)

    for threshold, rate in ((0.0, 0.0), (0.01, 0.5), (float("inf"), 10.0)):
        mock_clock.autojump_threshold, mock_clock.rate = threshold, rate
        async with testing.run(app) as test:
            await test.enqueue(handler.job())
            await test.drain()
        assert (mock_clock.autojump_threshold, mock_clock.rate) == (threshold, rate)
        mock_clock.rate = 0.0
