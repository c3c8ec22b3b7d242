"""A failure that can't be described is its own job's failure, in the log, in the payload and for those who keep a record."""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hostile_errors import HOSTILE, HOSTILE_WAITS

from trioworkers import App, Context, FleetLimit, testing
from trioworkers.failures import MAX_FRAMES, MAX_MESSAGE, Undescribable, harmless, stand_in, summary, trace
from trioworkers.process.log_formats import JsonFormatter, LogfmtFormatter, TextFormatter
from trioworkers.tracebacks import format_error

FORMATTERS = [logging.Formatter(), TextFormatter(), LogfmtFormatter(), JsonFormatter()]

hostile = pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)


def raised(make: Callable[[], BaseException]) -> BaseException:
    try:
        raise make()
    except BaseException as error:  # noqa: BLE001 - handed on
        return error


@hostile
def test_description_cannot_raise_and_is_bounded(make: Callable[[], BaseException]):
    error = raised(make)
    name, message = summary(error)
    assert type(name) is type(message) is str
    assert 0 < len(name) <= 500
    assert len(message) <= MAX_MESSAGE
    assert len(json.dumps(trace(error))) <= MAX_FRAMES * 400
    assert isinstance(stand_in(error), Undescribable)


@hostile
def test_every_formatter_can_show_what_the_log_gets(make: Callable[[], BaseException]):
    error = raised(make)
    shown = harmless(error)
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "x", (), (type(shown), shown, shown.__traceback__))
    for formatter in FORMATTERS:
        record.exc_text = None
        assert len(formatter.format(record)) < 2_000_000
    assert format_error(error) == format_error(shown)


def test_sane_errors_are_shown_as_they_are():
    def fail() -> BaseException:
        group = ExceptionGroup("both", [ValueError("b"), OSError(2, "c")])
        group.__cause__ = KeyError("a")
        group.add_note("see there")
        return group

    error = raised(fail)
    assert harmless(error) is error


@hostile
@pytest.mark.parametrize("dialect", ["sidekiq", "resque"])
async def test_hostile_failure_is_one_jobs_failure(
    autojump_clock: object, make: Callable[[], BaseException], dialect: str, caplog: pytest.LogCaptureFixture
):
    app, ran = App(dialect=dialect), []

    @app.handler("q")
    async def hostile(ctx: Context) -> None:
        raise make()

    @app.handler("q")
    async def good(number: int) -> None:
        ran.append(number)

    async with testing.run(app) as test:
        failing = [attrs.evolve(hostile.job(), retry=True, backtrace=True), attrs.evolve(hostile.job(), retry=0)]
        await test.enqueue(good.job(1), *failing, good.job(2))
        await test.drain()
        await test.enqueue(good.job(3))
        await test.drain()
        assert sorted(ran) == [1, 2, 3]
        assert (len(test.retries) + len(test.dead), test.completed) == (2, 5)
        for again in test.retries:  # Resque retries nothing
            fields: dict[str, Any] = dict(again.extra)
            assert fields["error_class"]
            assert "error_message" in fields
            lines = json.loads(zlib.decompress(base64.b64decode(fields["error_backtrace"])))
            assert any("test_hostile_failures.py" in line for line in lines)
    assert "--- Logging error" not in caplog.text


@pytest.mark.parametrize("how", [*HOSTILE_WAITS])
@pytest.mark.parametrize("limit", [None, FleetLimit("few", concurrency=2)])
async def test_hostile_wait_is_one_jobs_failure(autojump_clock: object, how: str, limit: FleetLimit | None):
    app, ran = App(), []

    @app.handler("q", limit=limit)
    async def hostile(ctx: Context) -> None:
        if len(ran) < 3:
            raise HOSTILE_WAITS[how]()  # noqa: RSE102 - it makes one

    @app.handler("q")
    async def good(number: int) -> None:
        ran.append(number)

    async with testing.run(app) as test:
        await test.enqueue(good.job(1), hostile.job(), good.job(2))
        await test.drain()
        await test.enqueue(good.job(3))
        await test.drain()
        assert sorted(ran) == [1, 2, 3]
