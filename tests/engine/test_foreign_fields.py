"""Fields that only Ruby's middleware obeys: said once for each class; what can't be run isn't."""

from __future__ import annotations

import json
import logging

import pytest

from trioworkers import App, Batch, Context, Job, testing
from trioworkers.engine.foreign_fields import CONSEQUENCES


@pytest.mark.parametrize("field", sorted(CONSEQUENCES))
async def test_job_runs_all_the_same_and_it_is_said_once_for_each_class(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, field: str
):
    app, ran = App(), []

    @app.handler("q", "A")
    @app.handler("q", "B")
    async def run(ctx: Context) -> None:
        ran.append(ctx.job.job_class)

    value = 1_500_000_000 if field == "expiry" else "x"
    async with testing.run(app) as test:
        for job_class in ("A", "A", "B", "A"):
            await test.enqueue(Job("q", job_class, extra={field: value}))
        await test.drain()
        assert not test.dead
    assert sorted(ran) == ["A", "A", "A", "B"]
    said = [record.getMessage() for record in caplog.records if "only Ruby's middleware obeys" in record.getMessage()]
    assert len(said) == 2
    assert all(field in text and CONSEQUENCES[field] in text for text in said)


async def test_it_is_not_said_for_each_class_that_a_stranger_makes_up(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
):
    app, ran = App(), []

    @app.handler("q", "*")
    async def run(ctx: Context) -> None:
        ran.append(ctx.job.job_class)

    async with testing.run(app) as test:
        for number in range(50):
            await test.enqueue(Job("q", f"A{number}", extra={"bid": "x"}))
        await test.drain()
    assert len(ran) == 50
    assert caplog.text.count("only Ruby's middleware obeys") == 1


@pytest.mark.parametrize("extra", [{"bid": "x"}, {"encrypt": True}], ids=json.dumps)
async def test_nothing_is_said_of_what_nobody_here_runs(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, extra: dict[str, object]
):
    app = App()

    @app.handler("q", "A")
    async def run() -> None: ...

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "B", extra=extra))
        await test.drain()
        assert len(test.retries) == 1
    assert "UnknownClass" in caplog.text
    assert "middleware" not in caplog.text


@pytest.mark.parametrize(
    "extra",
    [
        {"expiry": 4_700_000_000},
        {"expiry": 4_700_000_000_000},
        {"expiry": "soon"},
        {"bid": None},
        {"encrypt": False},
        {"x": 1},
    ],
    ids=json.dumps,
)
async def test_what_has_no_consequence_is_not_said(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, extra: dict[str, object]
):
    app, ran = App(), []

    @app.handler("q", "A")
    async def run(ctx: Context) -> None:
        ran.append(ctx.job.jid)

    caplog.set_level(logging.WARNING)
    async with testing.run(app) as test:
        await test.enqueue(Job("q", "A", extra=extra))
        await test.drain()
    assert len(ran) == 1
    assert not [record for record in caplog.records if "middleware" in record.getMessage()]


@pytest.mark.parametrize("more", [{}, {"retry": 5}, {"dead": False}])
async def test_job_whose_arguments_only_ruby_can_read_is_not_run(autojump_clock: object, more: dict[str, object]):
    app = App()

    @app.handler("q", "A")
    async def run(ctx: Context, secret: str) -> None:
        raise AssertionError(secret)

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "A", ["BAhJIg=="], extra={"encrypt": True}, **more))  # type: ignore[arg-type]
        await test.drain()
        (payload,) = test.dead_payloads
    dead = json.loads(payload)
    assert dead["error_class"] == "trioworkers.Bury"
    assert "encrypted by Sidekiq Enterprise" in dead["error_message"]
    assert dead["encrypt"] is True


async def test_encrypted_job_of_a_batch_has_failed_and_the_batch_ends(autojump_clock: object):
    app, ran = App(), []

    @app.handler("q", "A")
    @app.handler("q", "Told")
    async def run(what: str) -> None:
        ran.append(what)

    told = {f"on_{end}": Job("q", "Told", [end]) for end in ("success", "finished", "death")}
    batch = Batch(**told)  # type: ignore[arg-type]
    batch.add(Job("q", "A", ["BAhJIg=="], extra={"encrypt": True}, runs_here=True))
    async with testing.run(app) as test:
        await test.enqueue(batch)
        await test.drain()
        assert len(test.dead) == 1
    assert sorted(ran) == ["death", "finished"]


@pytest.mark.parametrize("dialect", ["sidekiq", "goworkers", "resque"])
@pytest.mark.parametrize("delay_s", [0, 60])
async def test_encrypted_job_is_run_in_no_dialect_now_or_later(autojump_clock: object, dialect: str, delay_s: int):
    app = App()
    app.queue("q", dialect=dialect)

    @app.handler("q", "A")
    async def run(secret: str) -> None:
        raise AssertionError(secret)

    job = Job("q", "A", ["BAhJIg=="], extra={"encrypt": True})
    async with testing.run(app) as test:
        await (test.schedule(delay_s, job) if delay_s else test.enqueue(job))
        await test.advance(2 * delay_s)
        await test.drain()
        (payload,) = test.dead_payloads
    dead = json.loads(payload)
    assert "encrypted by Sidekiq Enterprise" in dead["error_message"]
    assert dead["args"] == ["BAhJIg=="]


async def test_nothing_that_would_hold_if_it_ran_is_said_of_an_encrypted_job(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
):
    app = App()

    @app.handler("q", "A")
    async def run(secret: str) -> None:
        raise AssertionError(secret)

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "A", ["BAhJIg=="], extra={"encrypt": True, "bid": "x"}))
        await test.drain()
        assert len(test.dead) == 1
    assert "the job runs all the same" not in caplog.text
