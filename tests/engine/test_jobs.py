"""What becomes of jobs, on the fake broker and the virtual clock: each way an attempt can end, and what surrounds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from trioworkers import App, Bury, CallFailed, Context, Discard, Job, RetryAfter, Unavailable, testing
from trioworkers.broker.contract import PAGE_BYTES, Settlement
from trioworkers.broker.fake import FakeBroker
from trioworkers.engine import runner as engine_runner


@pytest.fixture
def app() -> App:
    return App()


async def test_job_runs_with_its_arguments_and_is_gone(autojump_clock: object, app: App):
    seen: list[tuple[int, str, int]] = []

    @app.handler("q")
    async def add(ctx: Context, a: int, b: str = "x") -> None:
        seen.append((a, b, ctx.attempt))

    async with testing.run(app) as test:
        await test.enqueue(add.job(1), add.job(2, "y"))
        await test.drain()
        assert sorted(seen) == [(1, "x", 1), (2, "y", 1)]  # started in one batch, in no particular order
        assert (test.completed, test.jobs("q"), test.retries, test.dead) == (2, [], [], [])


async def test_failed_job_is_retried_until_it_succeeds(autojump_clock: object, app: App):
    attempts: list[int] = []

    @app.handler("q")
    async def flaky(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt < 4:
            raise ValueError(f"attempt {ctx.attempt}")

    async with testing.run(app) as test:
        await test.enqueue(flaky.job())
        await test.drain(retries=True)
        assert attempts == [1, 2, 3, 4]
        assert test.dead == []


async def test_job_that_never_succeeds_ends_dead_after_26_attempts(autojump_clock: object, app: App):
    attempts = []

    @app.handler("q")
    async def hopeless(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("no")

    async with testing.run(app) as test:
        await test.enqueue(hopeless.job())
        await test.drain(retries=True)
        assert len(attempts) == 26
        assert [job.extra["error_message"] for job in test.dead] == ["no"]
        assert trio.current_time() > 20 * 24 * 3600


async def test_handler_that_asks_for_a_time_gets_it(autojump_clock: object, app: App):
    times = []

    @app.handler("q")
    async def later(ctx: Context) -> None:
        times.append(trio.current_time())
        if len(times) == 1:
            raise RetryAfter(123)

    async with testing.run(app) as test:
        await test.enqueue(later.job())
        await test.drain(retries=True)
        assert times[1] - times[0] == pytest.approx(123, abs=0.1)


@pytest.mark.parametrize(("error", "dead"), [(Bury("why"), 1), (Discard("why"), 0), (SystemExit(3), 0)], ids=repr)
async def test_what_a_handler_raises_decides(autojump_clock: object, app: App, error: BaseException, dead: int):
    @app.handler("q", retry=False)
    async def end(ctx: Context) -> None:
        raise error

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "end", [], retry=False))
        await test.drain()
        assert (len(test.dead), test.retries) == (dead, [])


async def test_what_is_discarded_on_purpose_is_no_error(
    autojump_clock: object, app: App, caplog: pytest.LogCaptureFixture
):
    @app.handler("q")
    async def end(ctx: Context) -> None:
        raise Discard("why")

    with caplog.at_level(logging.INFO):
        async with testing.run(app) as test:
            await test.enqueue(end.job())
            await test.drain()
    assert [record.levelname for record in caplog.records if "next=discarded" in record.getMessage()] == ["INFO"]


class Panic(BaseException):
    """As Rust extensions raise one."""


def nested(depth: int) -> Exception:
    error: Exception = ValueError("no")
    for _ in range(depth):
        error = ExceptionGroup("group", [error])
    return error


@pytest.mark.parametrize(
    "error", [Panic("no"), asyncio.CancelledError("no"), nested(3000)], ids=lambda e: type(e).__name__
)
async def test_what_a_handler_should_not_raise_is_its_own_failure_only(
    autojump_clock: object, app: App, error: BaseException
):
    @app.handler("q")
    async def end(ctx: Context) -> None:
        raise error

    async with testing.run(app) as test:
        await test.enqueue(end.job())
        await test.drain()
        assert [job.extra["error_message"] for job in test.retries] == ["no"]


async def test_scope_that_a_handler_leaves_open_is_its_own_failure_only(autojump_clock: object, app: App):
    ran = []
    left = trio.CancelScope()

    @app.handler("q")
    async def leave() -> None:
        left.__enter__()  # as one does who breaks out of an async generator that has one

    @app.handler("q")
    async def good(number: int) -> None:
        with trio.move_on_after(number % 2):
            await trio.sleep_forever()
        ran.append(number)

    async with testing.run(app) as test:
        await test.enqueue(*map(good.job, range(5)), leave.job(), *map(good.job, range(5, 10)))
        await test.drain()
        assert sorted(ran) == [*range(10)]
        assert [job.job_class for job in test.retries] == ["leave"]
        assert "Cancel scope stack corrupted" in test.retries[0].extra["error_message"]


async def a_cancellation() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            return error
    raise AssertionError


@pytest.mark.parametrize("grouped", [False, True])
async def test_cancellation_from_elsewhere_is_its_own_failure_only(autojump_clock: object, app: App, grouped: bool):
    ran = []

    @app.handler("q")
    async def end() -> None:
        error = await a_cancellation()
        raise BaseExceptionGroup("", [error]) if grouped else error

    @app.handler("q")
    async def good() -> None:
        await trio.sleep(1)
        ran.append(1)

    async with testing.run(app) as test:
        await test.enqueue(good.job(), end.job(), good.job())
        await test.drain()
        await test.enqueue(good.job())
        await test.drain()
        assert len(ran) == 3
        assert [job.job_class for job in test.retries] == ["end"]


async def test_calls_and_reasons_without_a_form_in_utf8_are_that_jobs_failure_only(autojump_clock: object, app: App):
    made = []

    @app.handler("q")
    async def name(ctx: Context) -> None:
        async with ctx.fan_out() as fan:
            fan.start("\udc80", trio.sleep, 0)

    @app.handler("q")
    async def reason(ctx: Context) -> None:
        async def call() -> None:
            made.append(True)
            raise CallFailed("", "no: \udc80", permanent=True)

        async with ctx.fan_out() as fan:
            fan.start("a", call)
        raise AssertionError("the block has raised")

    async with testing.run(app) as test:
        await test.enqueue(name.job(), reason.job())
        await test.drain()
        assert ["UTF-8" in job.extra["error_message"] for job in test.retries] == [True]
        assert ["no: ?" in job.extra["error_message"] for job in test.dead] == [True]
        assert made == [True]


async def test_attempt_that_takes_too_long_is_cancelled_and_retried(autojump_clock: object, app: App):
    cleaned_up = []

    @app.handler("q", timeout=5)
    async def slow(ctx: Context) -> None:
        assert ctx.remaining() == 5
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up.append(True)

    async with testing.run(app) as test:
        await test.enqueue(slow.job())
        await test.drain()
        (job,) = test.retries
        text = job.extra["error_message"]
        assert text.startswith(f"the attempt took longer than its timeout of 5 s; it waited at {__file__}:")
        assert text.endswith(", in slow: await trio.sleep_forever()")
        assert job.extra["error_class"] == "trio.TooSlowError"
        assert cleaned_up


async def test_unknown_class_is_retried_and_its_error_names_the_known_ones(autojump_clock: object, app: App):
    @app.handler("q", "Known")
    async def known(ctx: Context) -> None: ...

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "Unknown", []))
        await test.drain()
        (job,) = test.retries
        assert "'Unknown'" in job.extra["error_message"]
        assert "Known" in job.extra["error_message"]


async def test_wrong_arguments_are_buried(autojump_clock: object, app: App):
    @app.handler("q")
    async def add(ctx: Context, a: int) -> None:
        raise AssertionError("must not run")

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "add", ["x"]))
        await test.drain()
        assert [job.extra["error_message"] for job in test.dead] == ["add: argument 1 (a): expected int, got str"]


async def test_unreadable_payloads_are_buried_as_they_came_and_neighbours_run(autojump_clock: object, app: App):
    ran = []

    @app.handler("q")
    async def ok(ctx: Context, n: int) -> None:
        ran.append(n)

    bad = [
        b"not json",
        b"[1]",
        b'{"class":""}',
        b'{"class":7,"args":[]}',
        b'{"a":"\xff"}',
        b"x" * (1 << 21),
        b"[" * 10**6,
    ]
    async with testing.run(app) as test:
        await test.enqueue(ok.job(1))
        test._broker.queues["q"][:0] = bad
        await test.enqueue(ok.job(2))
        await test.drain()
        assert sorted(test.dead_payloads) == sorted(bad)
        assert sorted(ran) == [1, 2]
        assert test._broker.stats["processed"] == 2


async def test_jobs_enqueued_by_a_job_go_out_with_its_success_only(autojump_clock: object, app: App):
    @app.handler("q")
    async def parent(ctx: Context, succeed: bool) -> None:
        ctx.enqueue(Job("out", "Child", [1]))
        ctx.schedule(timedelta(minutes=5), Job("out", "Later", []))
        await ctx.client.enqueue(Job("at_once", "Child", []))
        if not succeed:
            raise ValueError("no")

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "parent", [False]))
        await test.drain()
        assert (test.jobs("out"), test.scheduled, len(test.jobs("at_once"))) == ([], [], 1)
        await test.enqueue(Job("q", "parent", [True]))
        await test.drain()
        assert [job.job_class for job in test.jobs("out")] == ["Child"]
        assert [job.job_class for job in test.scheduled] == ["Later"]


@pytest.mark.parametrize("succeeds", [True, False])
async def test_what_is_enqueued_when_the_attempt_is_over_is_refused(
    autojump_clock: object, app: App, *, succeeds: bool
):
    refused: list[str] = []

    async def late(ctx: Context) -> None:
        await trio.sleep(1)
        for send in (partial(ctx.enqueue, Job("out", "Child", [])), partial(ctx.schedule, 5, Job("out", "Later", []))):
            with pytest.raises(RuntimeError, match=r"the attempt is over.*ctx\.client\.enqueue"):
                send()
            refused.append(ctx.job.jid)
        await ctx.client.enqueue(Job("out", "AtOnce", []))

    @app.handler("q", retry=False)
    async def leaves_a_task(ctx: Context) -> None:
        nursery.start_soon(late, ctx)
        if not succeeds:
            raise ValueError("no")

    async with trio.open_nursery() as nursery, testing.run(app) as test:
        await test.enqueue(leaves_a_task.job())
        await test.drain()
        await trio.sleep(2)
        assert len(refused) == 2
        assert [job.job_class for job in test.jobs("out")] == ["AtOnce"]
        assert test.scheduled == []


async def test_outcomes_that_send_much_are_not_written_all_at_once(
    autojump_clock: object, app: App, monkeypatch: pytest.MonkeyPatch
):
    groups: list[int] = []
    settle = FakeBroker.settle

    async def settle_noted(
        broker: FakeBroker, token: str, group: Sequence[Settlement], cleared: Sequence[str] = ()
    ) -> dict[int, str]:
        groups.append(len(group))
        return await settle(broker, token, group, cleared)

    monkeypatch.setattr(FakeBroker, "settle", settle_noted)
    app.queue("q", concurrency=40)

    @app.handler("q")
    async def parent(ctx: Context) -> None:
        await trio.sleep(1)
        ctx.enqueue(Job("out", "Child", ["x" * 1_000_000]))

    async with testing.run(app) as test:
        await test.enqueue(*[parent.job() for _ in range(40)])
        await test.drain()
        assert len(test.jobs("out")) == 40
    assert max(groups) <= PAGE_BYTES // 1_000_000


async def test_job_that_sends_more_than_redis_takes_at_once_fails(
    autojump_clock: object, app: App, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine_runner, "MAX_SENDS_BYTES", 3000)

    @app.handler("q")
    async def parent(ctx: Context) -> None:
        ctx.enqueue(*[Job("out", "Child", ["x" * 1000])] * 3)

    async with testing.run(app) as test:
        await test.enqueue(parent.job())
        await test.drain()
        assert "bytes in all" in test.retries[0].extra["error_message"]
        assert test.jobs("out") == []


async def test_job_that_cannot_be_sent_is_its_parents_failure(autojump_clock: object, app: App):
    @app.handler("q")
    async def parent(ctx: Context) -> None:
        ctx.enqueue(Job("out", "Child", [float("nan")]))

    async with testing.run(app) as test:
        await test.enqueue(parent.job())
        await test.drain()
        assert "enqueued by this job" in test.retries[0].extra["error_message"]


async def test_middleware_goes_around_in_order(autojump_clock: object, app: App):
    seen = []

    def layer(name: str) -> Any:
        async def middleware(ctx: Context, call_next: Any) -> Any:
            seen.append(f"{name} before {ctx.job.job_class}")
            result = await call_next()
            seen.append(f"{name} after {result}")
            return result

        return middleware

    app.middleware(layer("outer"))
    app.middleware(layer("inner"))

    @app.handler("q")
    async def answer() -> int:
        return 42

    async with testing.run(app) as test:
        await test.enqueue(answer.job())
        await test.drain()
    assert seen == ["outer before answer", "inner before answer", "inner after 42", "outer after 42"]


async def test_lifespan_surrounds_the_jobs_and_its_value_is_their_state(autojump_clock: object):
    story = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        story.append("open")
        yield "the state"
        story.append("close")

    app = App(lifespan=lifespan)

    @app.handler("q")
    async def use(ctx: Context) -> None:
        story.append(ctx.state)

    async with testing.run(app) as test:
        await test.enqueue(use.job())
        await test.drain()
    assert story == ["open", "the state", "close"]


async def test_no_more_jobs_run_at_once_than_the_queue_has_slots(autojump_clock: object, app: App):
    app.queue("q", concurrency=3)
    running, most = 0, 0

    @app.handler("q")
    async def count(ctx: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    async with testing.run(app) as test:
        await test.enqueue(*[count.job() for _ in range(20)])
        await test.drain()
        assert (most, test.completed) == (3, 20)


async def test_log_carries_the_job(autojump_clock: object, app: App, caplog: pytest.LogCaptureFixture):
    @app.handler("q")
    async def talk(ctx: Context) -> None:
        ctx.log.warning("hello")

    async with testing.run(app) as test:
        (jid,) = await test.enqueue(talk.job())
        await test.drain()
    (line,) = [entry for entry in caplog.records if entry.getMessage() == "hello"]
    assert (line.jid, line.job_class, line.queue, line.attempt) == (jid, "talk", "q", 1)


async def test_arguments_never_reach_the_log(autojump_clock: object, app: App, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)

    @app.handler("q")
    async def fail(ctx: Context, secret: str) -> None:
        raise ValueError("no")

    async with testing.run(app) as test:
        await test.enqueue(fail.job("hunter2"))
        await test.drain()
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("after", [False, True])
async def test_outcomes_wait_for_redis_and_are_written_once(autojump_clock: object, app: App, *, after: bool):
    @app.handler("q")
    async def ok(ctx: Context) -> None:
        test._broker.fail_next(Unavailable("gone"), after=after, times=5)

    async with testing.run(app) as test:
        await test.enqueue(ok.job())
        await test.drain()
        await trio.sleep(60)
        assert (test._broker.stats["processed"], test.completed) == (1, 1)


async def test_suspects_run_one_at_a_time_and_are_cleared(autojump_clock: object, app: App):
    running, most = 0, 0

    @app.handler("q")
    async def suspect(ctx: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(0.5)
        running -= 1

    async with testing.run(app) as test:
        jobs = [suspect.job() for _ in range(5)]
        test._broker.crash_counts.update({job.jid: 2 for job in jobs})
        await test.enqueue(*jobs)
        await test.drain()
        await trio.sleep(5)
        assert (most, test.completed) == (1, 5)
        # Said with the next group of outcomes.
        await test.enqueue(attrs.evolve(jobs[0], jid="innocent"))
        await test.drain()
        assert (dict(test._broker.crash_counts), test._broker.in_quarantine) == ({}, set())
