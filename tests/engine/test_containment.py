"""What a handler does to its worker stays its own failure; what comes from outside goes on to the worker."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from trioworkers import App, Job, testing
from trioworkers.engine.runner import Runner
from trioworkers.failures import leaves
from trioworkers.wire.dialect import SIDEKIQ


@pytest.fixture
def app() -> App:
    return App()


def good(app: App) -> tuple[Callable[[int], Job], list[int]]:
    """A handler that waits for a while, and the list of those that came through."""
    ran: list[int] = []

    @app.handler("q")
    async def wait(number: int) -> None:
        await trio.sleep(1)
        ran.append(number)

    return wait.job, ran


ENDS = [KeyboardInterrupt, GeneratorExit, SystemExit, StopIteration, StopAsyncIteration, trio.TrioInternalError]


async def in_handler(kind: type[BaseException]) -> None:
    raise kind("no")


async def in_thread(kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("no")

    await trio.to_thread.run_sync(fail)


async def in_nursery(kind: type[BaseException]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0.1)
        nursery.start_soon(in_handler, kind)


async def while_cleaning_up(kind: type[BaseException]) -> None:
    try:
        with trio.fail_after(0.1):
            await trio.sleep_forever()
    finally:
        raise kind("no")


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("how", [in_handler, in_thread, in_nursery, while_cleaning_up])
async def test_exceptions_that_end_a_program_are_a_jobs_own_failure(
    autojump_clock: object, app: App, kind: type[BaseException], how: Callable[[type[BaseException]], Awaitable[None]]
):
    make, ran = good(app)

    @app.handler("q")
    async def end() -> None:
        await how(kind)

    async with testing.run(app) as test:
        await test.enqueue(make(1), end.job(), make(2))
        await test.drain()
        await test.enqueue(make(3))
        await test.drain()
        assert sorted(ran) == [1, 2, 3]
        assert [job.job_class for job in test.retries] == ["end"]


@pytest.mark.parametrize("deep", [False, True])
def test_ctrl_c_of_a_program_that_leaves_it_to_trio_ends_that_program(app: App, deep: bool):
    async def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    @app.handler("q")
    async def end() -> None:
        if not deep:
            await interrupt()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)

    async def main() -> None:
        async with testing.run(app) as test:
            await test.enqueue(end.job())
            await test.drain()

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - looked at below
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(raised.value))


async def test_hole_in_how_payloads_are_read_costs_one_job(
    autojump_clock: object, app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    make, ran = good(app)
    decode = Runner._decode

    def hole(self: Runner, delivery: object, dialect: object) -> Job:
        job = decode(self, delivery, dialect)  # type: ignore[arg-type]
        if job.job_class == "Hole":
            raise OverflowError("never thought of")
        return job

    monkeypatch.setattr(Runner, "_decode", hole)
    async with testing.run(app) as test:
        await test.enqueue(make(1), Job("q", "Hole"), make(2))
        await test.drain()
        assert sorted(ran) == [1, 2]
        assert [SIDEKIQ.decode(payload, "q").job_class for payload in test.dead_payloads] == ["Hole"]
    assert "OverflowError: never thought of" in caplog.text


async def test_hole_in_how_a_failure_is_decided_costs_one_job(
    autojump_clock: object, app: App, monkeypatch: pytest.MonkeyPatch
):
    make, ran = good(app)

    @app.handler("q")
    async def fail() -> None:
        raise ValueError("no")

    def hole(*_: object, **__: object) -> None:
        raise OverflowError("never thought of")

    monkeypatch.setattr("trioworkers.retry.decide", hole)
    async with testing.run(app) as test:
        await test.enqueue(make(1), fail.job(), make(2))
        await test.drain()
        assert sorted(ran) == [1, 2]
        assert [job.job_class for job in test.dead] == ["fail"]


async def test_log_that_raises_changes_no_outcome(autojump_clock: object, app: App, caplog: pytest.LogCaptureFixture):
    make, ran = good(app)

    @app.handler("q")
    async def fail() -> None:
        raise ValueError("no")

    def refuse(_: object) -> bool:
        raise RuntimeError("a filter of the user's")

    logger = logging.getLogger("trioworkers.job")
    logger.addFilter(refuse)
    try:
        with caplog.at_level("INFO"):
            async with testing.run(app) as test:
                await test.enqueue(make(1), fail.job(), make(2))
                await test.drain()
                assert sorted(ran) == [1, 2]
                assert len(test.retries) == 1
    finally:
        logger.removeFilter(refuse)


async def test_failure_of_a_job_leaves_no_cycles_behind(autojump_clock: object, app: App):
    @app.handler("q")
    async def fail() -> None:
        raise ValueError("no")

    async with testing.run(app) as test:
        await test.enqueue(fail.job())
        await test.drain()
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await test.enqueue(*[fail.job() for _ in range(5)])
            await test.drain()
            gc.collect()
            assert not [found for found in gc.garbage if isinstance(found, ValueError)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()


# ── what a handler does to the nursery that it runs in ─────────────────────────────────────────────────────────────────


async def test_nursery_that_a_handler_leaves_open_is_its_own_failure(
    autojump_clock: object, app: App, caplog: pytest.LogCaptureFixture
):
    make, ran = good(app)
    left: list[trio.Nursery] = []

    @app.handler("q", retry=1)
    async def leave() -> None:
        manager = trio.open_nursery()
        left.append(await manager.__aenter__())
        left[-1].start_soon(trio.sleep_forever)

    async with testing.run(app) as test:
        await test.enqueue(make(1), leave.job(), make(2))
        await test.drain()
        await test.enqueue(make(3))
        await test.drain(retries=True)
        assert sorted(ran) == [1, 2, 3]
        assert (len(left), [job.job_class for job in test.dead]) == (2, ["leave"])
        assert all(not nursery.child_tasks for nursery in left)  # and what ran in it is gone


@pytest.mark.parametrize("times", [1, 3])
async def test_nursery_that_a_handler_cancels_takes_no_other_job_along(
    autojump_clock: object, app: App, times: int, caplog: pytest.LogCaptureFixture
):
    make, ran = good(app)

    @app.handler("q")
    async def cancel() -> None:
        nursery = trio.lowlevel.current_task().parent_nursery
        assert nursery is not None
        nursery.cancel_scope.cancel()

    async with testing.run(app) as test:
        for number in range(times):
            await test.enqueue(make(number), cancel.job(), make(number + 10))
            await trio.sleep(0.5)
            await test.enqueue(make(number + 20))
        await test.drain()
        assert len(ran) == 3 * times
        assert test.completed == 4 * times
    assert "was cancelled by one of its own jobs" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, SystemExit, OSError])
async def test_task_that_a_handler_leaves_in_its_queues_nursery_takes_nothing_along(
    autojump_clock: object, app: App, kind: type[BaseException], caplog: pytest.LogCaptureFixture
):
    make, ran = good(app)

    @app.handler("q")
    async def leave() -> None:
        nursery = trio.lowlevel.current_task().parent_nursery
        assert nursery is not None
        nursery.start_soon(in_handler, kind)

    async with testing.run(app) as test:
        await test.enqueue(make(1), leave.job(), make(2))
        await test.drain()
        await test.enqueue(make(3))
        await test.drain()
        assert sorted(ran) == [1, 2, 3]
    assert f"a task of queue q ended as none should: {kind.__name__}: no" in caplog.text


async def test_jobs_that_run_when_a_test_ends_are_cancelled(autojump_clock: object, app: App):
    ended = []

    @app.handler("q")
    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    with pytest.raises(ValueError, match="own"):  # as it was raised, in no group
        async with testing.run(app) as test:
            await test.enqueue(wait.job())
            await trio.sleep(1)
            raise ValueError("the test's own")
    async with testing.run(app) as test:
        await test.enqueue(wait.job())
        await trio.sleep(1)
    assert len(ended) == 2
