"""Options of a declaration reach the jobs that they are about; what can't be obeyed is refused where it is said."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from trioworkers import App, BadJob, Breaker, ConfigurationError, Context, Http, Job, Limit, RetryAfter, testing
from trioworkers.send import moment
from trioworkers.testing import running
from trioworkers.wire.dialects import dialect_named

SAID: dict[str, tuple[Any, Any]] = {
    "retry": (3, 3),
    "retry_for": (60.5, 61),
    "retry_queue": ("slow", "slow"),
    "backtrace": (5, 5),
    "dead": (False, False),
    "tags": (["eu", "billing"], ["eu", "billing"]),
}


def declare(app: App, **options: Any) -> Any:
    async def handler(ctx: Context, n: int = 0) -> None:
        raise ValueError("no")

    return app.handler("q", "A", **options)(handler)


def payload(job: Job, dialect: str = "sidekiq") -> dict[str, Any]:
    return json.loads(dialect_named(dialect).encode(job, 1.0))


@pytest.mark.parametrize("dialect", ["sidekiq", "goworkers", "resque"])
@pytest.mark.parametrize("option", SAID)
def test_handlers_own_jobs_carry_its_options(option: str, dialect: str):
    said, written = SAID[option]
    handler = declare(App(dialect=dialect), **{option: said})
    for job in (handler.job(1), handler.active_job(1)):
        fields = payload(job, dialect)
        assert fields["retry_max" if (option, dialect) == ("retry", "goworkers") else option] == written
        again = dialect_named(dialect).decode(json.dumps(fields).encode(), "q")
        assert getattr(again, option) == getattr(job, option) or option == "retry_for"


def test_lifetime_and_result_are_options_of_a_handler_too():
    job = declare(App(), expires_in=60, keep_result=90).job()
    assert (job.expires_in, job.keep_result) == (60, 90)
    assert {"tw_expires", "tw_keep"} <= payload(job).keys()


def test_job_says_of_retries_what_is_usual_where_its_handler_says_nothing():
    assert payload(declare(App()).job())["retry"] is True
    assert "retry" not in payload(declare(App(dialect="resque")).job(), "resque")
    assert "retry" not in payload(declare(App(dialect="goworkers")).job(), "goworkers")
    app = App()
    app.queue("q", dialect="goworkers")
    assert declare(app).job().retry is None
    app = App()
    handler = declare(app)
    assert handler.job().retry is True
    app.configure(dialect="goworkers")
    assert handler.job().retry is None


def test_job_that_leaves_retries_to_its_handler_says_nothing_of_them():
    assert "retry" not in payload(Job("q", "A", retry=None))
    assert payload(Job("q", "A"))["retry"] is True


@pytest.mark.parametrize("dialect", ["sidekiq", "resque", "goworkers"])
@pytest.mark.parametrize(
    ("said", "attempts", "dead"), [(0, 1, 1), (False, 1, 0), (2, 3, 1)], ids=["none", "neither", "two"]
)
async def test_retry_of_a_handler_holds_for_jobs_that_it_built(
    autojump_clock: object, dialect: str, said: Any, attempts: int, dead: int
):
    app = App(dialect=dialect)
    handler = declare(app, retry=said)
    async with testing.run(app) as test:
        await test.enqueue(handler.job())
        await test.drain(retries=True)
        assert test.completed == attempts + (dialect == "goworkers" and said == 2)  # which counts one more
        assert len(test.dead_payloads) == dead


async def test_retry_of_a_handler_holds_for_jobs_that_leave_it_to_the_handler(autojump_clock: object):
    app = App()
    declare(app, retry=1)
    async with testing.run(app) as test:
        await test.enqueue(Job("q", "A", retry=None))
        await test.drain(retries=True)
        assert test.completed == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retry", "5"),
        ("retry", 2.0),
        ("retry", -1),
        ("retry", 10**400),
        ("retry_for", 0),
        ("retry_for", "60"),
        ("retry_for", float("nan")),
        ("retry_for", True),
        ("retry_for", 10**400),
        ("retry_queue", "low\nprio"),
        ("retry_queue", 7),
        ("backtrace", "all"),
        ("backtrace", -3),
        ("dead", "no"),
        ("dead", 0),
        ("tags", "urgent"),
        ("tags", ["a", 7]),
        ("expires_in", 0),
        ("expires_in", "60"),
        ("keep_result", -1),
    ],
)
def test_option_that_cannot_be_is_refused_where_it_is_said(option: str, value: Any):
    with pytest.raises(ConfigurationError, match=f"handler on queue 'q': {option} "):
        declare(App(), **{option: value})
    with pytest.raises(BadJob, match=option):
        payload(Job("q", "A", **{option: value}))


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "30", True, 10**400, 1795872030.5])
def test_timeout_is_a_length_of_time(timeout: Any):
    with pytest.raises(ConfigurationError, match="timeout"):
        declare(App(), timeout=timeout)


def test_option_that_there_is_not_is_an_error_of_the_call():
    with pytest.raises(TypeError, match="retries"):
        declare(App(), retries=3)


def test_fields_that_only_an_active_job_has_are_refused_elsewhere():
    with pytest.raises(BadJob, match="active_job_fields"):
        payload(Job("q", "A", active_job_fields={"locale": "de"}))


async def test_cpu_processes_is_obeyed_in_tests_too(autojump_clock: object, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    opened = running.open_resources

    def watched(client: Any, http: Any, cpu_processes: int, lifespan: Any) -> Any:
        seen.append(cpu_processes)
        return opened(client, http, cpu_processes, lifespan)

    monkeypatch.setattr(running, "open_resources", watched)
    app = App(cpu_processes=7)
    declare(app)
    async with testing.run(app):
        assert seen == [7]


# ── jobs of others ─────────────────────────────────────────────────────────────────────────────────────────────────────


def push(test: testing.RunningApp, queue: str, raw: bytes) -> None:
    """As another program does."""
    test._broker._queue(queue).insert(0, raw)
    test._broker._changed.set()
    test._broker._changed = trio.Event()


@pytest.mark.parametrize("retry", ['"5"', "2.0", '"true"', '"false"', '""', "0.0", "[]", "{}", "1e308"])
async def test_odd_retry_is_sidekiqs_default(autojump_clock: object, retry: str):
    """As Sidekiq 6.4, 7.3 and 8.1 run them: whatever is no number, but something, is true."""
    app = App()
    declare(app, retry=1)
    async with testing.run(app) as test:
        raw = b'{"class":"A","args":[],"jid":"x","queue":"q","retry":%s}' % retry.encode()
        push(test, "q", raw)
        await test.drain()
        (waiting,) = test.retries
        assert (waiting.retry, waiting.retry_count) == (True, 0)
        assert b'"retry":%s' % retry.encode() in next(iter(test._broker.sets["retry"]))  # its own spelling stays
        await test.drain(retries=True)
        assert test.completed == 26


@pytest.mark.parametrize(("retry", "attempts", "dead"), [("false", 1, 0), ("0", 1, 1), ("-1", 1, 1), ("null", 2, 1)])
async def test_even_retry_is_what_it_says(autojump_clock: object, retry: str, attempts: int, dead: int):
    app = App()
    declare(app, retry=1)
    async with testing.run(app) as test:
        push(test, "q", b'{"class":"A","args":[],"jid":"x","retry":%s}' % retry.encode())
        await test.drain(retries=True)
        assert (test.completed, len(test.dead)) == (attempts, dead)


@pytest.mark.parametrize("retry", ['"5"', "2.0", "[]"])
async def test_odd_retry_is_nothing_to_resque_which_has_none(autojump_clock: object, retry: str):
    app = App(dialect="resque")
    declare(app)
    async with testing.run(app) as test:
        push(test, "q", b'{"class":"A","args":[],"retry":%s}' % retry.encode())
        await test.drain(retries=True)
        assert test.completed == 1


# ── moments ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (1795872000, r"epoch seconds: write datetime.fromtimestamp\(1795872000, UTC\)"),
        (1795872060.25, "epoch seconds"),
        (1e9, "epoch seconds"),
        (1795872000123.5, "epoch milliseconds"),
        (1795872000123, "epoch milliseconds"),
        (1795872000123456789, "epoch milliseconds"),
        (10**400, "epoch milliseconds"),
        pytest.param(10**5000, "epoch milliseconds", id="more digits than Python writes"),
        (float("nan"), "seconds from now"),
        (float("inf"), "seconds from now"),
        (True, "seconds from now"),
        ("60", "seconds from now"),
        (datetime(2030, 1, 1, tzinfo=UTC).date(), "seconds from now"),
        (datetime.min, "no moment"),  # noqa: DTZ901
        (datetime.max.replace(tzinfo=UTC), "no moment"),  # which some Pythons round up to the year 10000
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_number_that_can_only_be_a_moment_is_no_interval(when: Any, words: str):
    with pytest.raises(BadJob, match=words):
        moment(when)


def test_interval_may_be_long_and_a_moment_past():
    assert moment(999_999_999) == (999_999_999.0, None)
    assert moment(-5) == moment(-(10**400)) == (0.0, None)
    assert moment(timedelta(days=365 * 40))[0] == 365 * 40 * 86400
    assert moment(datetime(2030, 1, 1, tzinfo=UTC)) == (None, 1893456000.0)


def test_retry_after_refuses_what_no_number_of_seconds_is():
    for delay_s in (-1, -(10**400), 10**5000, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="RetryAfter takes seconds from"):
            RetryAfter(delay_s)


async def test_client_context_and_retry_after_refuse_moments_too(autojump_clock: object):
    app, errors = App(), []

    @app.handler("q")
    async def later(ctx: Context, how: str) -> None:
        try:
            if how == "schedule":
                ctx.schedule(time.time() + 60, Job("q", "B"))
            elif how == "client":
                await ctx.client.schedule(time.time() + 60, Job("q", "B"))
            else:
                raise RetryAfter(time.time() + 60)
        except (BadJob, ValueError) as error:
            errors.append(str(error))

    async with testing.run(app) as test:
        await test.enqueue(*(later.job(how) for how in ("schedule", "client", "raise")))
        await test.drain()
        assert test.scheduled == []
    assert len(errors) == 3
    assert all("epoch seconds" in error for error in errors)
    with trio.fail_after(60):
        async with testing.run(app) as test:
            with pytest.raises(BadJob, match="epoch seconds"):
                await test.schedule(time.time() + 60, Job("q", "B"))


# ── what middleware sees ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_middleware_sees_jobs_that_have_no_handler(autojump_clock: object):
    app, seen = App(), []
    declare(app)

    @app.middleware
    async def watching(ctx: Context, call_next: Any) -> None:
        try:
            await call_next()
        except Exception as error:
            seen.append((ctx.job.job_class, type(error)))
            raise

    async with testing.run(app) as test:
        await test.enqueue(Job("q", "Unheard", retry=False), Job("q", "A", ["hunter2"]))
        await test.drain()
    assert [kind.__name__ for _, kind in sorted(seen)] == ["BadArguments", "UnknownClass"]


# ── what an app and its HTTP client are told ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (lambda: App(http={}), "http"),  # type: ignore[arg-type]
        (lambda: App(http=30), "http"),  # type: ignore[arg-type]
        (lambda: App(lifespan=7), "lifespan"),  # type: ignore[arg-type]
        (lambda: App().handler("q", 7), "class"),  # type: ignore[arg-type]
        (lambda: App().handler("q", ""), "class"),
        (lambda: App().handler("q", "*", tags=["a"]), "tags"),
        (lambda: App().handler("q", "*", backtrace=True), "backtrace"),
        (lambda: App().handler("q", "*", check=False), "check"),
        (lambda: App().handler("q", limit=[None]), "limit is"),  # type: ignore[list-item]
        (lambda: Http(timeout=float("nan")), "timeout"),
        (lambda: Http(max_connections=2.5), "max_connections"),  # type: ignore[arg-type]
        (lambda: Http(limits={"h": 5}), "limits"),  # type: ignore[dict-item]
        (lambda: Http(limits=[Limit()]), "limits"),  # type: ignore[arg-type]
        (lambda: Http(breaker=True), "breaker"),  # type: ignore[arg-type]
        (lambda: Http(verify="no"), "verify"),  # type: ignore[arg-type]
        (lambda: Http(follow_redirects=0), "follow_redirects"),  # type: ignore[arg-type]
        (lambda: Http(private_addresses="no"), "private_addresses"),  # type: ignore[arg-type]
        (lambda: Http(max_response_bytes=1e6), "max_response_bytes"),  # type: ignore[arg-type]
        (lambda: Http(proxy=7), "proxy"),  # type: ignore[arg-type]
        (lambda: Limit(concurrency=2.5), "concurrency"),  # type: ignore[arg-type]
        (lambda: Breaker(failures=0.5), "failures"),  # type: ignore[arg-type]
        (lambda: Breaker(pause=float("nan")), "pause"),
    ],
)
def test_declaration_that_nobody_could_obey_is_refused(declared: Any, words: str):
    with pytest.raises(ConfigurationError, match=words):
        declared()


@pytest.mark.parametrize(
    "option", [{"limit": 0}, {"limit": -1}, {"limit": True}, {"limit": 2.5}, {"timeout": 0}, {"timeout": float("nan")}]
)
async def test_fan_out_that_could_never_send_is_refused(autojump_clock: object, option: dict[str, Any]):
    app, errors = App(), []

    @app.handler("q", timeout=60)
    async def send(ctx: Context) -> None:
        try:
            ctx.fan_out(**option)
        except ValueError as error:
            errors.append(str(error))

    async with testing.run(app) as test:
        await test.enqueue(send.job())
        await test.drain()
    assert [error.split()[0] for error in errors] == [*option]


def test_arguments_that_are_no_list_are_refused_without_telling_them():
    with pytest.raises(BadJob, match="a list, not str"):
        Job("q", "A", "hunter2")  # type: ignore[arg-type]
