"""Expiry, deadline and result, as handlers and clients meet them: an app without Redis, on the virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import trio

from trioworkers import App, Bury, ConfigurationError, Context, Discard, FleetLimit, Http, Job, JobFailed, JobGone
from trioworkers.broker.fake_store import EPOCH_S
from trioworkers.http import open_client
from trioworkers.http.time_left import telling_until
from trioworkers.testing import run


def in_s(seconds: float) -> datetime:
    return datetime.fromtimestamp(EPOCH_S, UTC) + timedelta(seconds=trio.current_time() + seconds)


def app_with(function: Callable[..., Any], **options: Any) -> App:
    app = App()
    app.queue("q", concurrency=1)
    app.handler("q", "A", **options)(function)
    return app


# ── expiry ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_job_that_waited_too_long_is_not_begun(autojump_clock: Any):
    began: list[int] = []

    async def handler(number: int) -> None:
        began.append(number)
        await trio.sleep(10)

    async with run(app_with(handler, expires_in=15)) as test:
        await test.enqueue(*(Job("q", "A", [n], expires_in=15) for n in range(4)))
        await test.drain()
        assert began == [0, 1]
        assert test.dead == []


async def test_handlers_own_jobs_carry_its_expiry_and_others_are_held_to_it_from_their_queueing_on(autojump_clock: Any):
    began: list[str] = []

    async def handler(name: str) -> None:
        began.append(name)
        await trio.sleep(10)

    app = app_with(handler, expires_in=5)
    async with run(app) as test:
        await test.enqueue(Job("q", "A", ["first"]), Job("q", "A", ["a stranger's"]))
        await test.drain()
    assert began == ["first"]


async def test_expired_retry_is_not_begun_again(autojump_clock: Any):
    attempts: list[int] = []

    async def handler(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError

    async with run(app_with(handler)) as test:
        await test.enqueue(Job("q", "A", expires_in=20))
        await test.drain(retries=True)
        assert attempts in ([1], [1, 2])  # the first retry comes after 15 to 25 s
        assert test.dead == []


# ── deadline ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_deadline_ends_the_attempt_and_there_is_no_other(autojump_clock: Any):
    ends: list[float] = []

    async def handler(ctx: Context) -> None:
        ends.append(ctx.remaining())
        await trio.sleep(100)

    async with run(app_with(handler, timeout=50)) as test:
        await test.enqueue(Job("q", "A", deadline=in_s(7)))
        await test.drain(retries=True)
        assert ends == [pytest.approx(7, abs=0.1)]
        assert [job.extra["error_class"] for job in test.dead] == ["trioworkers.DeadlinePassed"]


async def test_job_whose_deadline_passed_while_it_waited_is_not_begun(autojump_clock: Any):
    began: list[int] = []

    async def handler(number: int) -> None:
        began.append(number)
        await trio.sleep(10)

    async with run(app_with(handler)) as test:
        await test.enqueue(Job("q", "A", [1]), Job("q", "A", [2], deadline=in_s(5)))
        await test.drain(retries=True)
        assert began == [1]
        assert len(test.dead) == 1


async def test_job_that_waits_for_a_permit_in_vain_is_dead_when_its_deadline_passes(autojump_clock: Any):
    began: list[int] = []
    app = App()

    @app.handler("q", "A", limit=FleetLimit("crm", concurrency=1))
    async def handler(number: int) -> None:
        began.append(number)
        await trio.sleep(10_000)

    async with run(app) as test:
        await test.enqueue(Job("q", "A", [1]), Job("q", "A", [2], deadline=in_s(5)), Job("q", "A", [3], expires_in=5))
        await trio.sleep(30)
        assert [job.args for job in test.dead] == [(2,)]
        assert test.dead[0].extra["error_class"] == "trioworkers.DeadlinePassed"
        await test.drain(retries=True)
    assert began == [1]


@pytest.mark.parametrize("option", ["deadline", "expires_in"])
async def test_job_of_a_paused_class_comes_back_when_its_time_is_over(autojump_clock: Any, option: str):
    async def handler() -> None:
        raise NotImplementedError("it is paused")

    async with run(app_with(handler)) as test:
        test._runner.paused_classes = frozenset({"A"})
        await test.enqueue(Job("q", "A", **{option: in_s(20) if option == "deadline" else 20}))
        await trio.sleep(30)  # what is held looks again after five minutes
        assert (len(test.scheduled), len(test.dead)) == (0, int(option == "deadline"))


async def test_failure_whose_retry_would_come_too_late_is_final_and_keeps_its_own_error(autojump_clock: Any):
    async def handler() -> None:
        raise KeyError("x")

    async with run(app_with(handler)) as test:
        await test.enqueue(Job("q", "A", deadline=in_s(10)))
        await test.drain(retries=True)
        assert [job.extra["error_class"] for job in test.dead] == ["KeyError"]


async def test_deadline_is_inherited_by_what_the_job_enqueues_unless_that_is_sooner_over(autojump_clock: Any):
    seen: dict[str, datetime | None] = {}
    ours, sooner, later = in_s(60), in_s(30), in_s(90)

    async def handler(ctx: Context, name: str) -> None:
        seen[name] = ctx.job.deadline
        if name == "parent":
            ctx.enqueue(*(Job("q", "A", [str(each)], deadline=each) for each in (None, sooner, later)))

    async with run(app_with(handler)) as test:
        await test.enqueue(Job("q", "A", ["parent"], deadline=ours), Job("q", "A", ["free"]))
        await test.drain()
    assert seen == {"parent": ours, "None": ours, str(sooner): sooner, str(later): ours, "free": None}


# ── result ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_result_is_there_when_the_job_has_ended(autojump_clock: Any):
    async def handler(a: int, b: int) -> dict[str, int]:
        await trio.sleep(3)
        return {"sum": a + b}

    app = app_with(handler, keep_result=60)
    async with run(app) as test:
        [sent] = await test.client.enqueue(Job("q", "A", [1, 2], keep_result=60))
        with pytest.raises(TimeoutError):
            await test.client.result(sent, timeout=1)
        assert await test.client.result(sent, timeout=10) == {"sum": 3}
        await trio.sleep(61)
        with pytest.raises(TimeoutError):
            await test.client.result(sent, timeout=1)


async def test_handler_keeps_the_results_of_strangers_jobs_too(autojump_clock: Any):
    async def handler() -> str:
        return "done"

    async with run(app_with(handler, keep_result=60)) as test:
        await test.enqueue(Job("q", "A", jid="from ruby"))
        assert await test.client.result("from ruby", timeout=5) == "done"


@pytest.mark.parametrize(
    ("raised", "expected"), [(Bury("no"), JobFailed), (Discard("no"), JobGone)], ids=["bury", "discard"]
)
async def test_job_that_has_no_result_says_why(autojump_clock: Any, raised: Exception, expected: type[Exception]):
    async def handler() -> None:
        raise raised

    async with run(app_with(handler, keep_result=60)) as test:
        await test.enqueue(Job("q", "A", jid="j", keep_result=60))
        with pytest.raises(expected) as caught:
            await test.client.result("j", timeout=5)
        if isinstance(caught.value, JobFailed):
            assert (caught.value.error_class, caught.value.message) == ("trioworkers.Bury", "no")
        else:
            assert isinstance(caught.value, JobGone)
            assert caught.value.how == "discarded"


async def test_expired_job_says_so_to_who_waits(autojump_clock: Any):
    async def handler() -> None:
        await trio.sleep(10)

    async with run(app_with(handler)) as test:
        await test.enqueue(Job("q", "A"), Job("q", "A", jid="j", expires_in=5, keep_result=60))
        with pytest.raises(JobGone, match="expired"):
            await test.client.result("j", timeout=60)


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), {1: 2}, "x" * 70_000, [[0] * 40_000]],
    ids=["object", "nan", "keys", "text", "list"],
)
async def test_result_that_can_not_be_kept_is_that_jobs_failure(autojump_clock: Any, value: object):
    async def handler() -> object:
        return value

    async with run(app_with(handler, keep_result=60)) as test:
        await test.enqueue(Job("q", "A", retry=0))
        await test.drain()
        assert [job.extra["error_class"] for job in test.dead] == ["trioworkers.BadResult"]


async def test_nobody_pays_for_results_that_are_not_wanted(autojump_clock: Any):
    async def handler() -> object:
        return object()

    async with run(app_with(handler)) as test:
        await test.enqueue(Job("q", "A", retry=0))
        await test.drain()
        assert test.dead == []


@pytest.mark.parametrize(
    "options", [{"expires_in": 0}, {"keep_result": -1}, {"keep_result": "60"}, {"expires_in": True}], ids=str
)
def test_what_can_not_be_is_refused_at_the_decorator(options: dict[str, Any]):
    async def handler() -> None: ...

    with pytest.raises(ConfigurationError, match=r"q'"):
        app_with(handler, **options)


# ── what calls say of the time that is left ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("header", "given"), [("X-Request-Timeout", {}), ("Grpc-Left", {"deadline_header": "Grpc-Left"})]
)
async def test_calls_of_a_job_with_a_deadline_say_how_much_time_is_left(autojump_clock: Any, header: str, given: Any):
    app, seen = App(http=Http(**given)), []

    @app.handler("q", "A")
    async def handler(ctx: Context) -> None:
        await trio.sleep(2)
        await ctx.http.get("http://service/direct")
        async with ctx.fan_out() as calls:
            calls.get("one", "http://service/fan")

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get(header))
        return httpx.Response(200)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with run(app, http=client) as test:
        await test.enqueue(Job("q", "A", deadline=in_s(10)))
        await test.drain()
        await test.enqueue(Job("q", "A"))  # in the same task, maybe
        await test.drain()
    assert [float(text) for text in seen[:2]] == pytest.approx([8, 8], abs=0.1)
    assert seen[2:] == [None, None]


async def test_time_left_goes_over_the_wire_and_what_the_handler_says_itself_counts():
    """With the shared client, in both of its ways: the shorter one of fan-outs, and httpx's own."""
    heard: list[str] = []

    async def serve(stream: trio.SocketStream) -> None:
        async for data in stream:
            text = data.decode().lower()
            heard.append(
                next(
                    (line.partition(": ")[2] for line in text.split("\r\n") if line.startswith("x-request-timeout")), ""
                )
            )
            await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with trio.open_nursery() as nursery, open_client(Http()) as client:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"

        async def calls() -> None:
            await client.get(url)
            await client.exchange("GET", httpx.URL(url), {}, {})
            await client.get(url, headers={"X-Request-Timeout": "mine"})

        await telling_until(trio.current_time() + 60, calls)
        await client.get(url)
        nursery.cancel_scope.cancel()
    assert [59 < float(text) <= 60 for text in heard[:2]] == [True, True]
    assert heard[2:] == ["mine", ""]


@pytest.mark.parametrize("name", ["", "two words", "a:b", 7, "x" * 101])
def test_header_that_cannot_be_one_is_refused(name: Any):
    with pytest.raises(ConfigurationError, match="deadline_header"):
        Http(deadline_header=name)
