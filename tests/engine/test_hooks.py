"""Hooks: who hears of which failure, and that they change nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from servers import Server, Worker, wait_for

from trioworkers import (
    App,
    BadArguments,
    Bury,
    ConfigurationError,
    Context,
    Discard,
    Job,
    RetryAfter,
    UnknownClass,
    testing,
)

Told = list[tuple[str, str, str]]


def app_that_tells() -> tuple[App, Told]:
    app, told = App(), []

    @app.on_error
    async def failed(ctx: Context, error: BaseException) -> None:
        told.append(("error", ctx.job.job_class, type(error).__name__))

    @app.on_death
    async def died(ctx: Context, error: BaseException) -> None:
        told.append(("death", ctx.job.job_class, type(error).__name__))

    @app.handler("q", "Fail")
    async def fail() -> None:
        raise ValueError("no")

    @app.handler("q", "Typed")
    async def typed(n: int) -> None: ...

    @app.handler("q", "Steer")
    async def steer(how: str) -> None:
        raise {"bury": Bury("so"), "discard": Discard("so"), "later": RetryAfter(3600)}[how]

    @app.handler("q", "Slow", timeout=1)
    async def slow() -> None:
        await trio.sleep_forever()

    @app.handler("q", "Good")
    async def good() -> None: ...

    return app, told


async def run(app: App, *jobs: Job, retries: bool = True) -> testing.RunningApp:
    async with testing.run(app) as test:
        await test.enqueue(*jobs)
        await test.drain(retries=retries)
    return test


async def test_every_failed_attempt_is_told_and_the_last_is_a_death(autojump_clock: Any):
    app, told = app_that_tells()
    await run(app, Job("q", "Fail", retry=1), Job("q", "Good"))
    assert told == [("error", "Fail", "ValueError")] * 2 + [("death", "Fail", "ValueError")]


async def test_bad_arguments_unknown_classes_and_timeouts_are_told(autojump_clock: Any):
    app, told = app_that_tells()
    await run(app, Job("q", "Typed", ["x"]), Job("q", "Nobody", retry=0), Job("q", "Slow", retry=0))
    assert sorted(told) == sorted(
        [
            ("error", "Typed", BadArguments.__name__),
            ("death", "Typed", BadArguments.__name__),
            ("error", "Nobody", UnknownClass.__name__),
            ("death", "Nobody", UnknownClass.__name__),
            ("error", "Slow", "TooSlowError"),
            ("death", "Slow", "TooSlowError"),
        ]
    )


@pytest.mark.parametrize(("how", "kinds"), [("bury", ["error", "death"]), ("discard", ["error"]), ("later", ["error"])])
async def test_steered_failures(autojump_clock: Any, how: str, kinds: list[str]):
    app, told = app_that_tells()
    await run(app, Job("q", "Steer", [how]), retries=False)
    assert [kind for kind, _, _ in told] == kinds


@pytest.mark.parametrize(
    "fault",
    [ValueError("mine"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException(), RecursionError()],
)
async def test_hook_that_raises_changes_nothing(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture, fault: BaseException
):
    app, told = app_that_tells()

    @app.on_death
    async def broken(ctx: Context, error: BaseException) -> None:
        raise fault

    @app.on_death
    async def after(ctx: Context, error: BaseException) -> None:
        told.append(("after", ctx.job.job_class, ""))

    with caplog.at_level(logging.ERROR):
        test = await run(app, Job("q", "Steer", ["bury"]), Job("q", "Good"))
    assert [job.job_class for job in test.dead] == ["Steer"]
    assert ("after", "Steer", "") in told
    assert "hook test_hook_that_raises_changes_nothing.<locals>.broken failed" in caplog.text


async def test_hook_that_hangs_is_ended(autojump_clock: Any, caplog: pytest.LogCaptureFixture):
    app, _ = app_that_tells()

    @app.on_error
    async def hangs(ctx: Context, error: BaseException) -> None:
        await trio.sleep_forever()

    begun = trio.current_time()
    test = await run(app, Job("q", "Steer", ["bury"]))
    assert len(test.dead) == 1
    assert trio.current_time() - begun == pytest.approx(10, abs=1)
    assert "hangs took longer than 10 s" in caplog.text


async def test_hook_can_send_at_once_but_not_with_a_success(autojump_clock: Any, caplog: pytest.LogCaptureFixture):
    app, _ = app_that_tells()

    @app.on_death
    async def sends(ctx: Context, error: BaseException) -> None:
        await ctx.client.enqueue(Job("told", "Death", [ctx.job.jid, str(error)]))
        ctx.enqueue(Job("told", "Lost"))

    job = Job("q", "Steer", ["bury"])
    test = await run(app, job)
    assert [(told.job_class, told.args) for told in test.jobs("told")] == [("Death", (job.jid, "so"))]
    assert "await ctx.client.enqueue" in caplog.text


async def test_worker_that_stops_ends_a_hook(autojump_clock: Any, caplog: pytest.LogCaptureFixture):
    app, told = app_that_tells()
    hung = trio.Event()

    @app.on_error
    async def hangs(ctx: Context, error: BaseException) -> None:
        hung.set()
        try:
            await trio.sleep_forever()
        finally:
            told.append(("cancelled", "", ""))

    begun = trio.current_time()
    async with testing.run(app) as test:
        await test.enqueue(Job("q", "Fail"))
        await hung.wait()
    assert told[-1] == ("cancelled", "", "")
    assert trio.current_time() - begun < 1
    assert "longer than" not in caplog.text


@pytest.mark.parametrize("declare", ["on_error", "on_death"])
def test_what_is_no_hook_is_refused_where_it_is_declared(declare: str):
    def plain(ctx: Context, error: BaseException) -> None: ...

    async def short(ctx: Context) -> None: ...

    for wrong, told in ((plain, "no async function"), (short, "context and an error"), (3, "no async function")):
        with pytest.raises(ConfigurationError, match=f"{declare}.*{told}"):
            getattr(App(), declare)(wrong)


KILLER = """
import os
from trioworkers import App, Context, WorkerDied

app = App()

@app.handler("q", "Kill")
async def kill() -> None:
    os.kill(os.getpid(), 9)

@app.on_error
async def failed(ctx: Context, error: BaseException) -> None:
    print("told of", type(error).__name__, ctx.job.jid, flush=True)

@app.on_death
async def died(ctx: Context, error: BaseException) -> None:
    print("died of", type(error).__name__, ctx.job.jid, flush=True)
"""


def test_job_that_kills_its_workers_is_told_of(server: Server, tmp_path: Path, run_worker: Callable[..., Worker]):
    (tmp_path / "killer.py").write_text(KILLER)
    server.command(
        "LPUSH", "queue:q", b'{"class":"Kill","args":[],"jid":"0123456789abcdef01234567","queue":"q","retry":true}'
    )
    server.command("SADD", "queues", "q")
    for _ in range(3):
        worker = run_worker(server.url, "killer.py", "--process-id", "w")
        assert worker.ended() == -9
    last = run_worker(server.url, "killer.py", "--process-id", "w")
    wait_for(lambda: "died of WorkerDied 0123456789abcdef01234567" in last.text, lambda: last.text)
    assert "told of" in last.text
    assert server.command("ZCARD", "dead") == 1
