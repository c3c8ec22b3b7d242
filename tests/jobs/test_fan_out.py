"""Fan-out: what is sent, what is sent again, what is not."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
import trio

from trioworkers import CallFailed, FanOutError
from trioworkers.jobs.fan_out import open_fan_out
from trioworkers.jobs.progress import Progress

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def fan_out(answer: Answer, progress: Progress | None = None, *, limit: int | None = None):
    return open_fan_out(client(answer), "JID", progress or Progress(), limit=limit)


async def test_calls_carry_their_key_and_responses_have_their_names():
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        return httpx.Response(200, text=request.url.path)

    async with fan_out(answer) as fan:
        fan.get("a", "http://x/1")
        fan.post("b", "http://x/2", json={})
    assert sorted(keys) == ["JID:a", "JID:b"]
    assert {name: response.text for name, response in fan.responses.items()} == {"a": "/1", "b": "/2"}


async def test_rest_finishes_when_some_fail_and_the_retry_sends_only_those():
    sent: list[str] = []
    broken = True

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        return httpx.Response(503 if broken and request.url.path == "/b" else 200)

    def call_all(fan: object) -> None:
        for name in "abc":
            fan.post(name, f"http://x/{name}")  # type: ignore[attr-defined]

    progress = Progress()
    with pytest.raises(FanOutError) as caught:
        async with fan_out(answer, progress) as fan:
            call_all(fan)
    (failure,) = caught.value.exceptions
    assert (failure.name, failure.permanent) == ("b", False)
    assert sorted(progress.done) == ["a", "c"]
    assert progress.fields() == {"tw_done": progress.done, "tw_failed": None}

    sent.clear()
    broken = False
    again = Progress(list(progress.done))
    async with fan_out(answer, again) as fan:
        call_all(fan)
    assert sent == ["/b"]
    with pytest.raises(KeyError, match="earlier attempt"):
        _ = fan.responses["a"]


@pytest.mark.parametrize(
    ("status", "permanent"),
    [(400, True), (404, True), (408, False), (425, False), (429, False), (500, False), (302, True)],
)
async def test_status_decides_what_is_worth_a_retry(status: int, permanent: bool):
    with pytest.raises(FanOutError) as caught:
        async with fan_out(lambda _: httpx.Response(status)) as fan:
            fan.get("a", "http://x")
    assert caught.value.exceptions[0].permanent is permanent


async def test_permanent_failure_is_not_sent_again():
    progress = Progress(failed={"a": "404 Not Found"})
    with pytest.raises(FanOutError) as caught:
        async with fan_out(lambda _: pytest.fail("sent"), progress) as fan:
            fan.get("a", "http://x")
    assert "a: 404 Not Found (permanent" in str(caught.value)


async def test_expected_status_is_success():
    async with fan_out(lambda _: httpx.Response(409)) as fan:
        fan.post("a", "http://x", expect={409})
    assert fan.responses["a"].status_code == 409


async def test_broken_connection_is_temporary_and_a_bad_url_permanent():
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(FanOutError) as caught:
        async with fan_out(answer) as fan:
            fan.get("down", "http://x")
            fan.get("nonsense", "nonsense://x")
    assert {f.name: f.permanent for f in caught.value.exceptions}["down"] is False
    assert "ConnectError: refused" in str(caught.value)


async def test_name_used_twice_is_an_error_at_once():
    with pytest.raises(ValueError, match="'a' already"):
        async with fan_out(lambda _: httpx.Response(200)) as fan:
            fan.get("a", "http://x")
            fan.get("a", "http://x")


async def test_error_in_the_body_cancels_the_calls_and_comes_out_as_it_is(autojump_clock: object):
    with pytest.raises(LookupError):
        async with fan_out(lambda _: httpx.Response(200)) as fan:
            fan.start("slow", trio.sleep, 1000)
            await trio.sleep(0.1)
            raise LookupError
    assert trio.current_time() < 10


async def test_limit_bounds_the_calls_in_flight(autojump_clock: object):
    running, most = 0, 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1

    async with fan_out(lambda _: httpx.Response(200), limit=3) as fan:
        for number in range(10):
            fan.start(str(number), call)
    assert most == 3


async def test_function_says_itself_what_its_failure_is_worth():
    async def call() -> None:
        raise CallFailed("?", "no such user", permanent=True)

    with pytest.raises(FanOutError) as caught:
        async with fan_out(lambda _: httpx.Response(200)) as fan:
            fan.start("u", call)
    assert "u: no such user (permanent" in str(caught.value)


async def test_nested_and_repeated_fan_outs_share_the_jobs_names():
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        return httpx.Response(200)

    progress = Progress(["outer", "second"])
    async with fan_out(answer, progress) as outer:
        outer.get("outer", "http://x/outer")
        async with fan_out(answer, progress) as inner:
            inner.get("inner", "http://x/inner")
    async with fan_out(answer, progress) as second:
        second.get("second", "http://x/second")
        second.get("third", "http://x/third")
    assert sent == ["/inner", "/third"]
    assert (outer.skipped, second.skipped) == (["outer"], ["second"])
    assert progress.done == ["outer", "second", "inner", "third"]


async def test_key_fits_into_a_header_whatever_the_names_are():
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        return httpx.Response(200)

    async with fan_out(answer) as fan:
        fan.get("Zoë\r\nX: y", "http://x")
        fan.get("own", "http://x", headers={"idempotency-key": "mine"})
    assert sorted(keys) == ["JID:Zo%C3%AB%0D%0AX%3A%20y".replace("%3A", ":"), "mine"]


@pytest.mark.parametrize("name", [7, "", None])
async def test_name_that_could_not_travel_is_an_error_at_once(name: object):
    with pytest.raises(TypeError, match="name is a text"):
        async with fan_out(lambda _: httpx.Response(200)) as fan:
            fan.get(name, "http://x")  # type: ignore[arg-type]


async def test_failures_read_well_in_a_log():
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/slow":
            raise httpx.ReadTimeout("nothing came for 5 s")
        return httpx.Response(404)

    with pytest.raises(FanOutError) as caught:
        async with fan_out(answer, Progress(failed={"old": "410 Gone"})) as fan:
            for name in ("slow", "gone", "old"):
                fan.get(name, f"http://x/{name}")
    first, *lines = re.sub(r"0\.\d{3}", "0.000", str(caught.value)).splitlines()
    assert first == "3 of 3 calls failed"
    assert sorted(lines) == [
        "  gone: 404 Not Found (permanent, after 0.000 s)",
        "  old: 410 Gone (permanent, in an earlier attempt)",
        "  slow: ReadTimeout: nothing came for 5 s (temporary, after 0.000 s)",
    ]


async def test_cancelled_fan_out_cancels_its_calls(autojump_clock: object):
    with trio.move_on_after(1) as scope:
        async with fan_out(lambda _: httpx.Response(200)) as fan:
            fan.start("slow", trio.sleep, 1000)
    assert scope.cancelled_caught
