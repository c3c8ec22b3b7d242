"""Steps are taken once and iterations go on where they were: over failures, stops and what strangers write, on the virtual clock."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trioworkers import App, Bury, Context, Job, RetryAfter, sources, testing
from trioworkers.errors import BadResult, RecordsLost
from trioworkers.jobs.recording import MAX_INSIDE_BYTES
from trioworkers.wire.decode import decode
from trioworkers.wire.record import MAX_STEP_BYTES, encode_step


@attrs.frozen
class Charge:
    order: int
    cents: int


def app_of(handler: Callable[..., Any], **options: Any) -> App:
    app = App()
    app.handler("q", "Long", retry=3, **options)(handler)
    return app


async def run(handler: Callable[..., Any], **options: Any) -> testing.RunningApp:
    """What there is when the job and all its retries are over."""
    app = app_of(handler, **options)
    async with testing.run(app) as test:
        await test.enqueue(Job("q", "Long"))
        await test.drain(retries=True)
        assert not test._broker.held.steps, "what lies beside payloads goes with the jobs"
        return test


# ── steps ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_step_is_taken_once_over_all_attempts(autojump_clock: Any):
    calls: list[str] = []

    async def charge(order: int) -> Charge:
        calls.append("charge")
        return Charge(order, 500)

    async def mail(charged: Charge) -> None:
        calls.append("mail")
        if calls.count("mail") < 3:
            raise RetryAfter(1)

    async def work(ctx: Context) -> None:
        charged = await ctx.step("charge", charge, 7)
        assert charged == Charge(7, 500)
        assert await ctx.step("mail", mail, charged) is None

    test = await run(work)
    assert calls == ["charge", "mail", "mail", "mail"]
    assert (test.completed, test.dead) == (3, [])


async def test_result_is_what_json_has_of_it_in_the_first_attempt_as_well(autojump_clock: Any):
    async def pair():
        return (1, "two")

    seen: list[object] = []

    async def work(ctx: Context) -> None:
        seen.append(await ctx.step("pair", pair))
        if len(seen) == 1:
            raise RetryAfter(1)

    await run(work)
    assert seen == [[1, "two"], [1, "two"]]


@pytest.mark.parametrize("size", [1, MAX_INSIDE_BYTES // 2, MAX_STEP_BYTES - 2])
async def test_results_of_any_size_are_remembered(autojump_clock: Any, size: int):
    calls: list[int] = []

    async def take(number: int) -> str:
        calls.append(number)
        return "x" * size

    async def work(ctx: Context) -> None:
        for number in range(12):
            assert await ctx.step(f"n{number}", take, number) == "x" * size
        if ctx.attempt < 3:
            raise RetryAfter(1)

    await run(work)
    assert calls == list(range(12))


async def test_steps_beside_the_payload_stay_with_a_dead_job(autojump_clock: Any):
    async def take() -> str:
        return "x" * 60_000

    async def work(ctx: Context) -> None:
        await ctx.step("one", take)
        raise Bury("no")

    app = app_of(work)
    async with testing.run(app) as test:
        await test.enqueue(Job("q", "Long"))
        await test.drain()
        [dead] = test.dead
        assert set(test._broker.held.steps[dead.jid]) == {"one"}


async def test_what_lies_beside_goes_with_a_job_that_takes_no_step_any_more(autojump_clock: Any):
    async def take() -> str:
        return "x" * 60_000

    async def work(ctx: Context) -> None:
        if ctx.attempt == 1:
            await ctx.step("one", take)
            raise RetryAfter(1)

    await run(work)


async def test_records_that_are_gone_bury_the_job_rather_than_repeat_a_step(autojump_clock: Any):
    calls = 0

    async def take() -> str:
        nonlocal calls
        calls += 1
        return "x" * 60_000

    async def work(ctx: Context) -> None:
        await ctx.step("one", take)
        if ctx.attempt == 1:
            test._broker.held.steps.clear()
            raise RetryAfter(1)

    app = app_of(work)
    async with testing.run(app) as test:
        await test.enqueue(Job("q", "Long"))
        await test.drain(retries=True)
        [payload] = test.dead_payloads
    assert calls == 1
    assert RecordsLost.__name__ in json.loads(payload)["error_class"]


async def test_record_that_the_function_no_longer_fits_says_what_to_do(autojump_clock: Any):
    said: list[str] = []

    async def old() -> str:
        return "7 EUR"

    async def new() -> Charge:
        raise AssertionError("it is done")

    async def work(ctx: Context) -> None:
        if ctx.attempt == 1:
            await ctx.step("charge", old)
            raise RetryAfter(1)
        try:
            await ctx.step("charge", new)
        except BadResult as error:
            said.append(str(error))

    await run(work)
    assert "give the step another name if it shall run again" in said[0]


async def test_bad_names_and_results_are_refused(autojump_clock: Any):
    async def one() -> int:
        return 1

    async def no_json() -> object:
        return object()

    async def large() -> str:
        return "x" * (MAX_STEP_BYTES + 1)

    async def work(ctx: Context) -> None:
        await ctx.step("twice", one)
        with pytest.raises(ValueError, match="a step named 'twice' already"):
            await ctx.step("twice", one)
        for name in ("\ud800", "x" * 201):
            with pytest.raises(ValueError, match="name"):
                await ctx.step(name, one)
        for nameless in ("", 7, None):
            with pytest.raises(TypeError, match="name"):
                await ctx.step(nameless, one)  # type: ignore[arg-type] - that is tried
        with pytest.raises(BadResult, match="can't be recorded"):
            await ctx.step("object", no_json)
        with pytest.raises(BadResult, match="keep it elsewhere"):
            await ctx.step("large", large)

    test = await run(work)
    assert test.dead == test.retries == []


async def test_what_a_step_raises_is_recorded_nowhere(autojump_clock: Any):
    async def fail() -> int:
        raise KeyError("gone")

    async def work(ctx: Context) -> None:
        with pytest.raises(KeyError):
            await ctx.step("fail", fail)
        assert ctx._progress is not None
        assert ctx._progress.fields() == {}

    await run(work)


async def test_requests_of_a_step_carry_its_key(autojump_clock: Any):
    keys: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("Idempotency-Key"))
        return httpx.Response(200)

    async def send(ctx: Context) -> str:
        await ctx.http.post("http://a.test/")
        await ctx.http.post("http://a.test/", headers={"Idempotency-Key": "mine"})
        return ctx.idempotency_key

    async def work(ctx: Context) -> None:
        assert await ctx.step("send", send, ctx) == f"{ctx.job.jid}:send"
        assert ctx.idempotency_key == ctx.job.jid
        await ctx.http.post("http://a.test/")
        keys.append(ctx.job.jid)

    app = app_of(work)
    async with testing.run(app, http=httpx.AsyncClient(transport=httpx.MockTransport(answer))) as test:
        await test.enqueue(Job("q", "Long"))
        await test.drain()
    jid = keys.pop()
    assert keys == [f"{jid}:send", "mine", None]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
        st.lists,
    )
)
def test_record_of_strangers_is_read_or_left(value: Any):
    for record in (value, {"steps": value}, {"steps": {"a": value}}, {"at": {"a": value}}, {"beside": value}):
        payload = json.dumps({"class": "A", "args": [], "jid": "j", "tw_record": record}).encode()
        recorded = decode(payload, "q").recorded
        assert recorded is None or recorded.steps or recorded.cursors or recorded.beside


def test_json_of_a_result_is_kept_as_it_is():
    assert bytes(encode_step("a", {"b": [1, 2.5, None]})) == b'{"b":[1,2.5,null]}'


# ── iterations ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("every", [1, 7, 1000, timedelta(seconds=3)])
async def test_iteration_goes_on_after_the_last_row_that_was_done(autojump_clock: Any, every: int | timedelta):
    done: list[int] = []

    async def work(ctx: Context) -> None:
        async for number in ctx.iterate("rows", sources.numbers(25), every=every):
            if number % 10 == 9 and ctx.attempt <= number // 10 + 1:
                raise RetryAfter(1)
            await trio.sleep(1)
            done.append(number)

    await run(work)
    assert done == list(range(25))


async def test_iteration_that_is_through_is_not_begun_again(autojump_clock: Any):
    asked: list[object] = []

    async def source(cursor: object) -> AsyncIterator[tuple[int, str]]:
        asked.append(cursor)
        yield 1, "a"

    async def work(ctx: Context) -> None:
        assert [row async for row in ctx.iterate("rows", source)] == (["a"] if ctx.attempt == 1 else [])
        if ctx.attempt == 1:
            raise RetryAfter(1)

    await run(work)
    assert asked == [None]


async def test_calls_of_a_row_are_made_once_and_forgotten_with_it(autojump_clock: Any):
    made: list[str] = []

    async def call(name: str) -> None:
        made.append(name)

    async def fail() -> None:
        raise ConnectionError("away")

    async def work(ctx: Context) -> None:
        async with ctx.fan_out() as fan:
            fan.start("before", call, "before")
        async for row in ctx.iterate("rows", sources.numbers(1000), every=1):
            async with ctx.fan_out() as fan:
                fan.start(f"{row} a", call, f"{row} a")
                if row == 500 and ctx.attempt == 1:
                    fan.start(f"{row} b", fail)
                else:
                    fan.start(f"{row} b", call, f"{row} b")
            assert ctx._progress is not None
            assert len(ctx._progress.done) + len(ctx._progress.used) <= 6

    await run(work)
    assert sorted(made) == sorted(["before", *(f"{row} {name}" for row in range(1000) for name in "ab")])


async def test_name_of_a_call_without_its_row_is_refused(autojump_clock: Any):
    async def call() -> None: ...

    async def work(ctx: Context) -> None:
        async for row in ctx.iterate("rows", sources.numbers(2)):
            async with ctx.fan_out() as fan:
                if row == 0:
                    fan.start("send", call)
                else:
                    with pytest.raises(ValueError, match="named by their row"):
                        fan.start("send", call)

    test = await run(work)
    assert test.retries == test.dead == []


async def test_max_run_gives_the_slot_to_others(autojump_clock: Any):
    done: list[tuple[str, int]] = []
    app = App()
    app.queue("q", concurrency=1)

    @app.handler("q", "Long")
    async def long(ctx: Context, name: str) -> None:
        async for number in ctx.iterate("rows", sources.numbers(6), max_run=2):
            await trio.sleep(1)
            done.append((name, number))

    async with testing.run(app) as test:
        await test.enqueue(long.job("a"), long.job("b"))
        await test.drain(retries=True)
    assert sorted(done) == [(name, number) for name in "ab" for number in range(6)]
    assert [name for name, _ in done[:4]] == ["a", "a", "b", "b"]


async def test_failures_are_counted_anew_after_rows_were_done(autojump_clock: Any):
    async def work(ctx: Context) -> None:
        async for number in ctx.iterate("rows", sources.numbers(20), reset_retries=True):
            if number and number not in failed:
                failed.append(number)
                raise RetryAfter(1)

    failed: list[int] = []
    test = await run(work)
    assert failed == list(range(1, 20))  # with 3 retries
    assert test.dead == []


async def test_bad_options_and_cursors_are_refused(autojump_clock: Any):
    async def odd(_: object) -> AsyncIterator[tuple[object, int]]:
        yield object(), 1
        yield "x" * 5000, 1

    async def work(ctx: Context) -> None:
        for options in ({"every": 0}, {"every": True}, {"every": 1.5}, {"max_run": 0}, {"max_run": float("nan")}):
            with pytest.raises(ValueError, match=r"every|max_run"):
                ctx.iterate("bad", sources.numbers(1), **options)  # type: ignore[arg-type] - that is tried
        ctx.iterate("twice", sources.numbers(1))
        with pytest.raises(ValueError, match="already"):
            ctx.iterate("twice", sources.numbers(1))
        with pytest.raises(BadResult, match="cursor of iteration 'odd'"):
            async for _ in ctx.iterate("odd", odd, every=1):
                pass
        raise Bury("seen")

    test = await run(work)
    assert "seen" in json.loads(test.dead_payloads[0])["error_message"]


async def test_source_is_closed_with_its_attempt(autojump_clock: Any):
    closed: list[str] = []

    async def source(_: object) -> AsyncIterator[tuple[int, int]]:
        try:
            yield 1, 1
        finally:
            closed.append("yes")

    async def work(ctx: Context) -> None:
        async for _ in ctx.iterate("rows", source):
            break

    await run(work)
    assert closed == ["yes"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, RuntimeError])
async def test_source_that_fails_as_it_is_closed_spoils_neither_its_job_nor_the_closing_of_others(
    autojump_clock: Any, error: type[BaseException], caplog: pytest.LogCaptureFixture
):
    closed: list[object] = []

    def source(name: str) -> Callable[[object], AsyncIterator[tuple[int, int]]]:
        async def rows(_: object) -> AsyncIterator[tuple[int, int]]:
            try:
                yield 1, 1
            finally:
                closed.append(name)
                raise error(name)

        return rows

    async def work(ctx: Context) -> None:
        for name in ("first", "second"):
            async for _ in ctx.iterate(name, source(name)):
                break

    test = await run(work)
    assert sorted(closed) == ["first", "second"]
    assert (test.completed, test.dead) == (1, [])
    assert caplog.text.count("the source of an iteration could not be closed") == (0 if error is GeneratorExit else 2)
    assert "bug" not in caplog.text


# ── sources ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def rows(source: Callable[[Any], Any], cursor: Any = None) -> list[tuple[Any, Any]]:
    return [row async for row in source(cursor)]


async def goes_on_anywhere(source: Callable[[Any], Any]) -> list[Any]:
    everything = await rows(source)
    for place, (cursor, _) in enumerate(everything):
        assert [value for _, value in await rows(source, cursor)] == [value for _, value in everything[place + 1 :]]
    return [value for _, value in everything]


async def test_numbers_and_items(autojump_clock: Any):
    assert await goes_on_anywhere(sources.numbers(5)) == [0, 1, 2, 3, 4]
    assert await goes_on_anywhere(sources.numbers(10, 0, -3)) == [10, 7, 4, 1]
    assert await goes_on_anywhere(sources.numbers(3, 3)) == []
    assert await goes_on_anywhere(sources.items(["a", "b"])) == ["a", "b"]
    assert await rows(sources.items(["a"]), 5) == []


async def test_lines(autojump_clock: Any, tmp_path: Path):
    file = tmp_path / "lines"
    long = "ü" * 200_000
    file.write_bytes(f"one\r\n\n{long}\nlast".encode())
    assert await goes_on_anywhere(sources.lines(file)) == ["one", "", long, "last"]
    file.write_bytes(b"")
    assert await rows(sources.lines(file)) == []


async def test_pages(autojump_clock: Any):
    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params.get("page", "1"))
        link = {"Link": f'</orders?page={page + 1}>; rel="next"'} if page < 3 else {}
        return httpx.Response(200, json=page, headers=link, request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        source = sources.pages(client, "https://a.test/orders", sources.by_link)
        everything = await rows(source)
        assert [response.json() for _, response in everything] == [1, 2, 3]
        assert [response.json() for _, response in await rows(source, everything[0][0])] == [2, 3]
        assert await rows(source, everything[-1][0]) == []
