"""How JSON arguments become parameters, and what is said when they don't."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from typing import Any, Literal, Optional, TypedDict

import attrs
import msgspec
import pytest

from trioworkers import App, BadArguments, ConfigurationError, Context, Job
from trioworkers.jobs.handler import Handler


@attrs.frozen
class User:
    id: int
    name: str


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Options(TypedDict, total=False):
    fast: bool


class Packet(msgspec.Struct):
    size: int


async def everything(
    ctx: Context,
    user: User,
    at: datetime,
    point: Point,
    options: Options,
    packet: Packet,
    either: int | str,
    free: Any = 7,
) -> None: ...


async def rest(ctx: Context, first: int, *others: str) -> None: ...


async def without_context(a: int, b: str = "x") -> None: ...


def bind(function: Any, *args: object) -> list[Any]:
    bound, named = Handler(function, "q", "A").bind(Job("q", "A", args))
    assert not named
    return bound


def test_arguments_are_converted_to_their_annotations():
    bound = bind(everything, {"id": 1, "name": "é"}, "2026-01-02T03:04:05Z", {"x": 1}, {"fast": True}, {"size": 3}, "s")
    assert bound[0] == User(1, "é")
    assert bound[1].year == 2026
    assert bound[2:] == [Point(1.0), {"fast": True}, Packet(3), "s"]


def test_rest_parameter_takes_all_that_follow():
    assert bind(rest, 1, "a", "b") == [1, "a", "b"]
    with pytest.raises(BadArguments, match=r"argument 3 \(others\): expected str, got int"):
        bind(rest, 1, "a", 2)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["1"], r"A: argument 1 \(a\): expected int, got str"),
        ([], r"A: argument 1 \(a\) is missing: expected int"),
        ([1, "x", 3], r"A: expected at most 2 arguments, got 3"),
        ([None], r"argument 1 \(a\): expected int, got null"),
    ],
)
def test_mismatch_names_class_position_expected_and_got(args: list[object], words: str):
    with pytest.raises(BadArguments, match=words):
        bind(without_context, *args)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "int | None"),
        (Optional[int], "Optional[int]"),  # noqa: UP045 - as many write it
        (list[int], "list[int]"),
        (dict[str, int | None], "dict[str, int | None]"),
        (Literal["a", "b"], "Literal['a', 'b']"),
        (datetime, "datetime"),
    ],
)
def test_what_is_missing_is_called_as_it_was_declared(annotation: Any, words: str):
    async def handler(a: Any) -> None: ...

    handler.__annotations__["a"] = annotation
    with pytest.raises(BadArguments, match=rf"argument 1 \(a\) is missing: expected {re.escape(words)}, got 0"):
        bind(handler)


def test_mismatch_deep_inside_names_the_field():
    with pytest.raises(BadArguments, match=r"argument 1 \(user\): expected int, got str, in field id"):
        bind(everything, {"id": "1", "name": "x"})


def test_context_is_given_only_where_it_is_asked_for():
    assert Handler(rest, "q", "A").wants_context
    assert not Handler(without_context, "q", "A").wants_context


def test_handler_builds_jobs_for_itself():
    app = App()
    handler = app.handler("q", "Named")(rest)
    job = handler.job(1, "a")
    assert (job.queue, job.job_class, job.args) == ("q", "Named", (1, "a"))
    plain = app.handler("q")(without_context)
    assert plain.job(1, b="y").args == (1, "y")
    with pytest.raises(TypeError):
        plain.job()


async def test_handler_can_still_be_called_as_a_function():
    async def double(ctx: Context, n: int) -> int:
        return 2 * n

    assert await App().handler("q")(double)(None, 21) == 42


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda app: app.queue("q", concurrency=0), "concurrency"),
        (lambda app: app.queue("a b"), "queue"),
        (lambda app: (app.queue("q"), app.queue("q")), "twice"),
        (lambda app: app.handler("q")(lambda ctx: None), "async function"),
        (lambda app: app.handler(rest), "a handler says its queue"),
        (lambda app: (app.handler("q", "A")(rest), app.handler("q", "A")(without_context)), "already"),
        (lambda app: app.handler("q", timeout=0), "timeout"),
        (lambda app: app.middleware(print), "async"),
        (lambda app: app.check(), "no handler"),
        (lambda app: (app.queue("idle"), app.handler("q")(rest), app.check()), "idle"),
        (lambda app: App("http://x"), "Redis URL"),
        (lambda app: App(lease=0), "lease"),
        (lambda app: App(lease=10**400), "lease is a number of seconds from 0.5 to 1,000,000,000"),
        (lambda app: App(lease=1e308), "lease is a number of seconds"),
        (lambda app: App(shutdown_timeout=10**5000), "shutdown_timeout is .* not a number of very many digits"),
        (lambda app: App(shutdown_timeout=float("nan")), "shutdown_timeout is a number of seconds"),
        (lambda app: App(cpu_processes=-(10**5000)), "cpu_processes is a whole number from 1 on"),
        (lambda app: App(process_id="a b"), "process_id"),
    ],
)
def test_configuration_mistakes_are_told_where_they_are_made(make: Any, words: str):
    with pytest.raises(ConfigurationError, match=words) as caught:
        make(App())
    assert "\n" not in str(caught.value)


def test_star_takes_every_class_that_no_other_handler_takes():
    app = App()
    special, general = app.handler("q", "A")(rest), app.handler("q", "*")(without_context)
    assert (app.find("q", "A"), app.find("q", "B"), app.find("other", "A")) == (special, general, None)


def test_environment_counts_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere/3")
    monkeypatch.setenv("TRIOWORKERS_LEASE", "12")
    assert (App().settings.redis_url, App(lease=4).settings.lease, App().settings.lease) == (
        "redis://elsewhere/3",
        4,
        12,
    )
    monkeypatch.setenv("TRIOWORKERS_LEASE", "soon")
    with pytest.raises(ConfigurationError, match="TRIOWORKERS_LEASE"):
        _ = App().settings


# ── keyword arguments ──────────────────────────────────────────────────────────────────────────────────────────────────


async def named(ctx: Context, a: int, b: str = "x", *, since: datetime | None = None, notify: bool) -> None: ...


async def others(a: int, /, b: int = 0, **more: int) -> None: ...


def bind_named(function: Any, *args: object, **kwargs: object) -> tuple[list[Any], dict[str, Any]]:
    return Handler(function, "q", "A").bind(Job("q", "A", args, kwargs=kwargs, active_job=True))


def test_keyword_arguments_are_bound_by_name_and_converted():
    bound = bind_named(named, 1, notify=True, since="2026-01-02T03:04:05Z")
    assert bound == ([1], {"notify": True, "since": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)})
    assert bind_named(named, a=1, notify=False) == ([], {"a": 1, "notify": False})
    user = bind_named(
        everything, {"id": 1, "name": "x"}, "2026-01-02T03:04:05Z", {"x": 1}, {}, packet={"size": 1}, either=1
    )
    assert (user[0][0], user[1]) == (User(1, "x"), {"packet": Packet(1), "either": 1})


def test_further_keyword_arguments_go_where_any_are_taken():
    assert bind_named(others, 1, b=2, c=3) == ([1], {"b": 2, "c": 3})


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "words"),
    [
        (named, [1], {}, "keyword argument notify is missing: expected bool"),
        (named, [], {"notify": True}, r"argument 1 \(a\) is missing: expected int"),
        (named, [1], {"notify": "x"}, "keyword argument notify: expected bool, got str"),
        (named, [1], {"notify": True, "a": 2}, "argument a is given by position and by name"),
        (named, [1], {"notify": True, "c": 2}, "unexpected keyword argument 'c'; known: a, b, since, notify"),
        (named, [1], {"notify": True, "ctx": 2}, "unexpected keyword argument 'ctx'"),
        (others, [], {"a": 1}, r"argument 1 \(a\) is missing"),
        (others, [1], {"c": "x"}, "keyword argument c: expected int, got str"),
    ],
)
def test_mismatch_of_keyword_arguments_names_the_parameter(
    function: Any, args: list[object], kwargs: dict[str, object], words: str
):
    with pytest.raises(BadArguments, match=words):
        bind_named(function, *args, **kwargs)


def test_last_hash_of_older_rails_is_taken_for_keywords_where_only_keywords_fit():
    assert bind_named(named, 1, {"notify": True}) == ([1], {"notify": True})
    with pytest.raises(BadArguments, match="expected str, got object"):
        bind_named(named, 1, {"notify": True, "other": 1})


def test_handler_builds_active_jobs_with_arguments_by_name():
    handler = App().handler("q", "Named")(named)
    job = handler.active_job(1, notify=True)
    assert (job.args, job.kwargs, job.active_job, job.job_class) == ((1,), {"notify": True}, True, "Named")
    with pytest.raises(TypeError):
        handler.active_job(notify=True)
    with pytest.raises(TypeError, match="active_job"):
        handler.job(1, notify=True)
