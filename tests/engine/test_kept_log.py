"""The last log lines of a job: of its own tasks and threads, bounded, kept over its end, shown while it runs; and nobody else pays."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import httpx
import pytest
import trio
from servers import Server
from visiting import HERE, harmless_text, visiting

from trioworkers import App, Client, ConfigurationError, Context, Job
from trioworkers.testing import run
from trioworkers.web import asgi
from trioworkers.wire.log_lines import LINE_CHARACTERS, MAX_BYTES, MAX_LINES, LogLine, LogLines, decode_log

logger = logging.getLogger("somebody.elses")


@pytest.fixture(autouse=True)
def _info() -> Any:
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.INFO)
    yield
    logging.getLogger().setLevel(before)


@pytest.fixture
def app() -> App:
    app = App()
    app.queue("q", concurrency=10)
    return app


def kept(test: Any, jid: str) -> list[str]:
    text, _ = test._broker.held.logs.get(jid, (b"[]", 0))
    return [f"{line.level} {line.text}" for line in decode_log(text)]


async def test_of_each_job_its_own_lines_from_all_its_tasks_and_threads(autojump_clock: Any, app: App):
    @app.handler("q", "Talks", keep_log=5)
    async def talks(ctx: Context, name: str) -> None:
        async def child(number: int) -> None:
            await trio.sleep(number)
            logger.info("%s child %d", name, number)

        async with trio.open_nursery() as nursery:
            for number in (1, 2):
                nursery.start_soon(child, number)
        await trio.to_thread.run_sync(logger.warning, "%s in a thread", name)
        ctx.log.info("%s by ctx.log", name)
        try:
            raise KeyError(name)
        except KeyError:
            logger.exception("%s fell over", name)

    @app.handler("q", "Silent", keep_log=5)
    async def silent(_: Context) -> None: ...

    @app.handler("q", "Plain")
    async def plain(_: Context) -> None:
        logger.info("nobody keeps this")

    async with run(app) as test:
        jobs = [Job("q", "Talks", [name], jid=name) for name in "ab"]
        await test.enqueue(*jobs, Job("q", "Plain", jid="p"), Job("q", "Silent", jid="s"))
        await test.drain()
        await test.enqueue(Job("q", "Plain", jid="p2"))
        await test.drain()
        for name in "ab":
            assert kept(test, name) == [
                f"INFO {name} child 1",
                f"INFO {name} child 2",
                f"WARNING {name} in a thread",
                f"INFO {name} by ctx.log",
                f"ERROR {name} fell over: KeyError: '{name}'",
            ]
        assert set(test._broker.held.logs) == {"a", "b"}


async def test_newest_lines_of_the_last_attempt_stay_with_a_job_that_failed(autojump_clock: Any, app: App):
    @app.handler("q", "Fails", keep_log=3, retry=1)
    async def fails(ctx: Context) -> None:
        for number in range(10):
            logger.info("attempt %d line %d", ctx.attempt, number)
        raise ValueError("no")

    async with run(app) as test:
        await test.enqueue(Job("q", "Fails", jid="j", retry=1))
        await test.drain()
        found = kept(test, "j")
        assert found[-1] in ("INFO attempt 1 line 9", "INFO attempt 2 line 9")
        assert len(found) == 3


def test_what_is_kept_is_bounded_and_has_a_form():
    lines = LogLines(MAX_LINES)
    for number in range(5 * MAX_LINES):
        lines.add(float(number), "INFO", "x" * 10_000)
    text = lines.encode()
    assert len(text) <= MAX_BYTES
    found = decode_log(text)
    assert found[-1] == LogLine(5 * MAX_LINES - 1, "INFO", "x" * LINE_CHARACTERS)
    odd = LogLines(5)
    odd.add(1.0, "INFO", "\ud800\x00\u202e")
    assert len(decode_log(odd.encode())) == 1
    assert LogLines(5).encode() == b""


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"[[1,2,3]]", b"[" * 100_000, b'[[1e999,"",""]]', b"\xff"])
def test_what_others_wrote_there_is_nothing(text: bytes):
    assert list(decode_log(text)) == []


@pytest.mark.parametrize("count", [0, -1, True, "many", 1.5, MAX_LINES + 1])
def test_count_that_is_none_is_refused(app: App, count: Any):
    with pytest.raises(ConfigurationError, match="keep_log is a number from 1"):
        app.handler("q", "Wrong", keep_log=count)


async def test_a_record_that_cannot_be_formatted_is_said_to_be_one(autojump_clock: Any, app: App):
    class Mean:
        def __str__(self) -> str:
            raise RuntimeError("mean")

    @app.handler("q", "Odd", keep_log=5)
    async def odd(_: Context) -> None:
        logging.lastResort, before = None, logging.lastResort
        root = logging.getLogger()
        others = [each for each in root.handlers if type(each).__name__ != "_Keeper"]
        for each in others:  # they would complain on stderr
            root.removeHandler(each)
        try:
            logger.info("%s", Mean())
            logger.info("two\nlines \x1b[31m")
        finally:
            logging.lastResort = before
            for each in others:
                root.addHandler(each)

    async with run(app) as test:
        await test.enqueue(Job("q", "Odd", jid="j"))
        await test.drain()
        first, second = kept(test, "j")
    assert "a record that can't be formatted: RuntimeError" in first
    assert "\n" not in second
    assert "\x1b[" not in second


def test_who_keeps_no_log_has_no_middleware_for_it(app: App):
    @app.handler("q", "Plain")
    async def plain(_: Context) -> None: ...

    assert app.middlewares == ()


async def test_pages_and_show_tell_it_while_the_job_runs_and_after_that(
    redis_url: str, shared_server: Server, capfd: Any
):
    app = App(redis_url, process_id="w1")
    app.queue("q")
    go_on = trio.Event()

    @app.handler("q", "Talks", keep_log=100)
    async def talks(ctx: Context, secret: str) -> None:
        logger.warning("<b>%s</b> is what it is told", secret)
        ctx.progress(3, 4, f"nearly through with {secret}")
        await ctx.step("charge", charge, secret)
        await go_on.wait()
        if secret == "fails":
            raise ValueError("no")

    async def charge(secret: str) -> str:
        return f"receipt of {secret}"

    async def page(visitor: httpx.AsyncClient, jid: str, *parts: str) -> str:
        with trio.fail_after(30):
            while True:
                text = (await visitor.get("/job", params={"jid": jid})).text
                harmless_text(text)
                if all(part in text for part in parts):
                    return text
                await trio.sleep(0.1)

    def redact(job: dict[str, Any]) -> dict[str, Any]:
        return {
            **job,
            "args": ["…"],
            "log": ["(hidden)" for _ in job.get("log", ())],
            "steps": {},
            "tw_record": None,
            "progress": "on its way",
        }

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(app.serve)
        async with Client(redis_url) as client:
            await client.enqueue(*(Job("q", "Talks", [name], jid=name, retry=0) for name in ("works", "fails")))
        async with (
            visiting(asgi(redis_url), headers=HERE) as visitor,
            visiting(asgi(redis_url, redact=redact), headers=HERE) as hidden,
        ):
            said = (
                "What it logged last",
                "WARNING &lt;b&gt;fails&lt;/b&gt; is what it is told",
                "nearly through with fails",
            )
            running = await page(visitor, "fails", *said, "running")
            assert "Where it awaits" in running
            go_on.set()
            dead = await page(visitor, "fails", *said, "ValueError", "receipt of fails")
            assert "3 of 4" in dead.replace("3.0 of 4.0", "3 of 4")
            over = await page(visitor, "works", "A job that is over", "succeeded", "works&lt;/b&gt; is what it is told")
            assert "Payload" not in over
            secret = await page(hidden, "fails", "(hidden)", "on its way")
            assert "is what it is told" not in secret
            assert "receipt" not in secret
        worker.stop()
    await trio.run_process([sys.executable, "-m", "trioworkers", "show", "fails", "--redis", redis_url])
    await trio.run_process([sys.executable, "-m", "trioworkers", "show", "fails", "--redis", redis_url, "--json"])
    text, _, last = capfd.readouterr().out.rpartition("\n{")
    assert "<b>fails</b> is what it is told" in text
    assert "step        charge" in text
    shown = json.loads("{" + last)
    assert [line["text"] for line in shown["log"]] == ["<b>fails</b> is what it is told"]
    assert shown["progress"]["at"] == 3
