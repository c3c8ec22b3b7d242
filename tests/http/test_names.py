"""Names of hosts: whose lookup waits for what, and which are none."""

from __future__ import annotations

import gzip
import random
import threading

import httpx
import pytest
import trio
import trio.lowlevel
from test_pool import Peer, good, pool_of, served

from trioworkers import Breaker, FanOutError, HostPaused, Http, Limit, lookup
from trioworkers.http import open_client
from trioworkers.jobs.fan_out import open_fan_out
from trioworkers.jobs.progress import Progress


async def test_slow_name_server_of_one_host_keeps_no_other_from_connecting(held_names: set[str]):
    held_names.add("slow.example")
    async with served(good, max_connections=5, timeout=60) as (_, url, client), trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(client.get, "http://slow.example/")
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(30):
            for name in ("a.example", "b.example", "127.0.0.1"):
                assert (await client.get(url.replace("127.0.0.1", name))).text == "ok"
        assert "0 active" in repr(pool_of(client))
        nursery.cancel_scope.cancel()


async def test_threads_that_jobs_have_filled_keep_nobody_from_connecting(held_names: set[str]):
    over = threading.Event()
    async with served(good) as (_, url, client), trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(trio.to_thread.run_sync, over.wait)
        try:
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(30):
                assert (await client.get(url.replace("127.0.0.1", "a.example"))).text == "ok"
        finally:
            over.set()


async def test_many_slow_names_keep_no_other_from_being_looked_up(
    held_names: set[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lookup, "QUICK_AT_ONCE", 3)
    monkeypatch.setattr(lookup, "QUICK_S", 0.01)
    held_names.add(".slow.example")
    async with served(good, timeout=60) as (_, url, client), trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(client.get, f"http://{number}.slow.example/")
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(30):
            assert (await client.get(url.replace("127.0.0.1", "a.example"))).text == "ok"
        nursery.cancel_scope.cancel()


async def test_lookups_have_a_bound(held_names: set[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lookup, "MOST_AT_ONCE", len(lookup._running) + 5)
    monkeypatch.setattr(lookup, "QUICK_S", 0.0)
    held_names.add(".slow.example")
    async with open_client(Http(timeout=0.3)) as client:

        async def call(number: int) -> None:
            with pytest.raises((httpx.ConnectTimeout, HostPaused)):
                await client.get(f"http://{number}.slow.example/")

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(call, number)
            await trio.testing.wait_all_tasks_blocked()
            assert len(lookup._running) <= lookup.MOST_AT_ONCE


async def test_lookup_and_connection_share_a_timeout_and_are_given_up_together(held_names: set[str]):
    held_names.add("slow.example")
    async with open_client(Http(timeout=60, limits={"*": Limit(concurrency=1, rate="1/h")})) as client:
        for _ in range(5):
            with trio.fail_after(60), trio.move_on_after(0.01):
                await client.get("http://slow.example/")
        governor = client._governed._governors["slow.example"]
        assert governor._limiter is not None
        assert (governor._calls, governor._limiter.borrowed_tokens) == (0, 0)
        assert "0 active" in repr(pool_of(client))


async def test_host_that_cannot_be_looked_up_is_paused_like_any_that_fails(held_names: set[str]):
    held_names.add("slow.example")
    async with open_client(Http(timeout=0.02, breaker=Breaker(failures=3))) as client:
        for _ in range(3):
            with pytest.raises(httpx.ConnectTimeout):
                await client.get("http://slow.example/")
        with pytest.raises(HostPaused):
            await client.get("http://slow.example/")


@pytest.mark.parametrize(
    "host",
    [
        "a..b",
        "x" * 64,
        "x" * 300,
        f"{'x' * 63}." * 5,
        ".",
        "a b",
        "a%00b",
        "%",
        "a,b",
        "a*b",
        "",
        "..",
        "a.b..",
        "ü" * 64,
    ],
)
@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:1"])
async def test_name_that_is_none_has_failed_for_good(host: str, proxy: str | None):
    async with open_client(Http(proxy=proxy)) as client:
        with pytest.raises(FanOutError) as failed:
            async with open_fan_out(client, "jid", Progress()) as fan:
                fan.get("call", f"http://{host}/")
        assert [call.permanent for call in failed.value.exceptions] == [True], str(failed.value)


@pytest.mark.parametrize("port", ["0", "65536", "99999999999999999999", "-1", "x"])
async def test_port_that_is_none_has_failed_for_good(port: str):
    async with open_client(Http()) as client:
        with pytest.raises(FanOutError) as failed:
            async with open_fan_out(client, "jid", Progress()) as fan:
                fan.get("call", f"http://127.0.0.1:{port}/")
        assert [call.permanent for call in failed.value.exceptions] == [True], str(failed.value)


@pytest.mark.parametrize(
    "host", ["a_b.example", "a.example.", "xn--bcher-kva.example", "bücher.example", "1.example", "A.EXAMPLE"]
)
async def test_unusual_names_are_called(host: str, held_names: set[str]):
    async with served(good) as (_, url, client):
        assert (await client.get(url.replace("127.0.0.1", host))).text == "ok"


async def test_limits_hold_however_a_name_is_written(held_names: set[str]):
    one = Limit(concurrency=1)
    limits = {"Api.Example.": one, "xn--bcher-kva.example": one, "Größe.example": one}
    async with served(good, limits=limits) as (_, url, client):
        for name in ("api.example", "API.example", "api.example.", "bücher.example", "xn--gre-6ka8i.example"):
            await client.get(url.replace("127.0.0.1", name))
        governors = client._transport._governors  # type: ignore[attr-defined]
        assert len(governors) == 3
        assert all(governor._limiter is not None for governor in governors.values())


# ── whatever a call holds ──────────────────────────────────────────────────────────────────────────────────────────────


class CancelledAt(trio.abc.Instrument):
    """Cancels a task when it suspends for the `number`th time."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, number: int) -> None:
        self.left = number
        self._task = task
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self.left -= 1
            if self.left == 0:
                self._scope.cancel()


WAYS: dict[str, dict[str, object]] = {
    "short": {},
    "as usual": {"params": {"a": "b"}},
    "a long upload": {"content": b"x" * 3_000_000},
    "an upload in pieces": {"headers": {"Content-Length": "3000000"}, "content": b"x" * 3_000_000},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_cancelled_whenever_it_waits_a_call_leaves_nothing_held(way: dict[str, object], held_names: set[str]):
    async def answer(peer: Peer, stream: trio.SocketStream) -> None:
        body = gzip.compress(random.Random(1).randbytes(300_000))
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 50_000):
            await trio.lowlevel.checkpoint()
            await stream.send_all(body[start : start + 50_000])

    limits = {"*": Limit(concurrency=1, rate="100000/s")}
    async with served(answer, limits=limits, max_connections=2, breaker=Breaker(failures=1, pause=0.001)) as (
        _,
        url,
        client,
    ):
        named, pool = url.replace("127.0.0.1", "a.example"), pool_of(client)
        number, was_cancelled = 0, True
        while was_cancelled:
            number += 1
            with trio.CancelScope() as scope:
                instrument = CancelledAt(trio.lowlevel.current_task(), scope, number)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await client.exchange("POST", httpx.URL(named), way.get("headers", {}), without_headers(way))  # type: ignore[attr-defined]
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            was_cancelled = scope.cancelled_caught
            governor = client._transport._governors["a.example"]  # type: ignore[attr-defined]
            assert (governor._calls, governor._limiter.borrowed_tokens, governor._probe) == (0, 0, None)
            assert pool._active == pool._lookups == 0
        assert number > 5


def without_headers(way: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in way.items() if name != "headers"}
