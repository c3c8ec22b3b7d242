"""Limits, circuit breaker, bounds and the guard, over real sockets; times on Trio's clock."""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import trio

from trioworkers import App, Breaker, ConfigurationError, Context, HostPaused, Http, Job, Limit, PrivateAddress, testing
from trioworkers.http import open_client
from trioworkers.http.governor import MANY_HOSTS, Call, GovernedTransport, Governor
from trioworkers.http.names import is_public


class Host(httpx.AsyncBaseTransport):
    """A host that takes `seconds` for each call and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.seconds = 0.1
        self.calls = 0
        self.at_once = self.most_at_once = 0
        self.times: list[float] = []
        self.error: Exception | None = None
        self.streams = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        self.times.append(trio.current_time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.at_once -= 1
        if self.error is not None:
            raise self.error
        if self.status == 0:
            raise httpx.ConnectError("no")
        if self.streams:
            return httpx.Response(self.status, stream=Parts())
        return httpx.Response(self.status, content=b"x")


def governed(**options: Any) -> tuple[Host, httpx.AsyncClient]:
    host = Host()
    return host, httpx.AsyncClient(transport=GovernedTransport(host, Http(**options)), timeout=None)


async def test_no_more_calls_at_once_than_the_host_may_take(autojump_clock: object):
    host, client = governed(limits={"api.example": Limit(concurrency=3)})
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(client.get, "http://api.example/")
            nursery.start_soon(client.get, "http://other.example/")
    assert host.calls == 40
    assert host.most_at_once == 3 + 20


async def test_calls_are_spaced_as_the_rate_says(autojump_clock: object):
    host, client = governed(limits={"api.example": Limit(rate="10/s")})
    async with trio.open_nursery() as nursery:
        for _ in range(21):
            nursery.start_soon(client.get, "http://api.example/")
    assert host.times[-1] - host.times[0] == pytest.approx(2.0)


async def test_who_gives_up_waiting_takes_no_permit_with_him(autojump_clock: object):
    _, client = governed(limits={"api.example": Limit(concurrency=1)})
    async with trio.open_nursery() as nursery:
        for number in range(20):

            async def impatient(seconds: float = 0.02 * number) -> None:
                with trio.move_on_after(seconds):
                    await client.get("http://api.example/")

            nursery.start_soon(impatient)
    with trio.fail_after(1):
        await client.get("http://api.example/")


async def test_who_gives_up_waiting_uses_nothing_up_of_the_rate(autojump_clock: object):
    host, client = governed(limits={"api.example": Limit(rate="1/s")})
    async with trio.open_nursery() as nursery:
        for _ in range(100):

            async def impatient() -> None:
                with trio.move_on_after(0.5):
                    await client.get("http://api.example/")

            nursery.start_soon(impatient)
    await client.get("http://api.example/")
    assert host.calls == 2
    assert trio.current_time() < 2


async def test_each_host_without_a_name_has_the_limit_of_the_star(autojump_clock: object):
    host, client = governed(limits={"*": Limit(concurrency=2), "free.example": Limit()})
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            for name in ("a", "b", "free"):
                nursery.start_soon(client.get, f"http://{name}.example/")
    assert host.most_at_once == 2 + 2 + 10


async def test_hosts_without_history_are_forgotten(autojump_clock: object):
    host, client = governed(breaker=Breaker(failures=1, pause=1000, longest_pause=1000))
    host.status, host.seconds = 500, 0.0
    await fails(client, 500)
    host.status = 200
    for number in range(MANY_HOSTS + 10):
        await client.get(f"http://host{number}.example/")
    transport = client._transport
    assert isinstance(transport, GovernedTransport)
    assert len(transport._governors) < 20
    with pytest.raises(HostPaused):
        await client.get("http://api.example/")


async def fails(client: httpx.AsyncClient, status: int) -> None:
    if status:
        assert (await client.get("http://api.example/")).status_code == status
    else:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://api.example/")


@pytest.mark.parametrize("status", [0, 503])
async def test_host_that_fails_in_a_row_is_paused_for_all_and_tried_by_one(autojump_clock: object, status: int):
    host, client = governed(breaker=Breaker(failures=3, pause=5, longest_pause=8))
    host.status = status
    for _ in range(3):
        await fails(client, status)
    with pytest.raises(HostPaused) as paused:
        await client.get("http://api.example/")
    assert 4 < paused.value.retry_after < 7
    assert (await client.get("http://other.example/") if status else True) is not None
    calls = host.calls

    await trio.sleep(5.1)
    async with trio.open_nursery() as nursery:  # one is let through, the others are not
        nursery.start_soon(fails, client, status)
        await trio.sleep(0.01)
        for _ in range(5):
            with pytest.raises(HostPaused):
                await client.get("http://api.example/")
    assert host.calls == calls + 1
    with pytest.raises(HostPaused) as paused:
        await client.get("http://api.example/")
    assert 7 < paused.value.retry_after <= 10  # doubled, and bounded

    await trio.sleep(8.1)
    host.status = 200
    for _ in range(3):
        assert (await client.get("http://api.example/")).status_code == 200


async def test_probe_that_is_cancelled_gives_its_turn_up(autojump_clock: object):
    host, client = governed(breaker=Breaker(failures=1, pause=5))
    host.status = 500
    await fails(client, 500)
    await trio.sleep(6)
    with trio.move_on_after(0.01):
        await client.get("http://api.example/")
    host.status = 200
    assert (await client.get("http://api.example/")).status_code == 200


def governor_of(client: httpx.AsyncClient, host: str = "api.example") -> Governor:
    transport = client._transport
    assert isinstance(transport, GovernedTransport)
    return transport._governors[host]


def assert_nothing_is_held(governor: Governor) -> None:
    assert governor._calls == 0
    assert governor._probe is None
    assert governor._limiter is None or governor._limiter.borrowed_tokens == 0
    assert not governor._turn.locked()


async def test_probe_that_is_cancelled_before_it_is_sent_gives_its_turn_up(autojump_clock: object):
    host, client = governed(breaker=Breaker(failures=1, pause=5), limits={"*": Limit(concurrency=1)})
    host.seconds = 100
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, client, 200)  # has the host's only permit for a while
        await trio.sleep(1)
        governor_of(client)._pause(Breaker(failures=1, pause=5), "a failure")
        await trio.sleep(6)
        with trio.move_on_after(1):
            await client.get("http://api.example/")
        assert governor_of(client)._probe is None
    host.seconds = 0.1
    assert (await client.get("http://api.example/")).status_code == 200
    assert_nothing_is_held(governor_of(client))


async def test_call_that_finds_its_host_paused_uses_no_turn_up(autojump_clock: object):
    host, client = governed(breaker=Breaker(failures=1, pause=100), limits={"*": Limit(rate="1/m")})
    host.status, host.seconds = 500, 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, client, 500)

        async def late() -> None:
            with pytest.raises(HostPaused):
                await client.get("http://api.example/")

        await trio.sleep(0.5)
        for _ in range(3):
            nursery.start_soon(late)
    await trio.sleep_until(101.1)
    host.status, before = 200, trio.current_time()
    assert (await client.get("http://api.example/")).status_code == 200
    assert trio.current_time() - before == 1


async def test_turn_of_a_call_that_was_never_sent_is_had_back(autojump_clock: object):
    async with open_client(Http(limits={"*": Limit(rate="1/h")}, max_connections=1)) as client:
        pool = client._pool
        assert pool is not None
        await pool._permits.acquire()
        with trio.move_on_after(10):
            await client.get("http://127.0.0.1:1/")
        pool._permits.release()
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")
        assert trio.current_time() < 11


async def test_whoever_waits_for_a_turn_gets_the_one_that_was_given_back(autojump_clock: object):
    governor = Governor("h", Limit(rate="1/h"), None)
    first, second = Call(), Call()
    await governor.admit(first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(governor.admit, second)
        await trio.sleep(7)
        governor.leave(first, sent=False)
    assert trio.current_time() == 7


async def test_failures_of_calls_from_before_a_pause_tell_nothing_of_after_it(autojump_clock: object):
    host, client = governed(breaker=Breaker(failures=2, pause=5))
    host.status, host.seconds = 500, 30
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(fails, client, 500)
        await trio.sleep(0.1)
        host.seconds = 1
        for _ in range(2):
            nursery.start_soon(fails, client, 500)
        await trio.sleep(7)
        host.status = 200
        await fails(client, 200)  # the host is back before the last of those have failed
        host.status = 500
        await trio.sleep(25)
        host.status = 200
    await fails(client, 200)


@pytest.mark.parametrize("error", [httpx.LocalProtocolError("x"), httpx.UnsupportedProtocol("x"), RuntimeError("x")])
async def test_error_of_our_own_is_no_news_of_the_host(autojump_clock: object, error: Exception):
    host, client = governed(breaker=Breaker(failures=2, pause=5))
    host.status = 500
    await fails(client, 500)
    host.error = error
    with pytest.raises(type(error)):
        await client.get("http://api.example/")
    host.error = None
    await fails(client, 500)
    with pytest.raises(HostPaused):
        await client.get("http://api.example/")


class Parts(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(3):
            await trio.sleep(0.1)
            yield b"x"


@pytest.mark.parametrize("seed", range(40))
async def test_all_is_given_back_however_calls_end(autojump_clock: object, seed: int):
    chance = random.Random(seed)
    limit = Limit(concurrency=chance.choice([None, 1, 3]), rate=chance.choice([None, "5/s"]))
    host, client = governed(breaker=Breaker(failures=2, pause=1, longest_pause=2), limits={"*": limit})

    def next_answer() -> None:
        host.seconds = chance.choice([0.0, 0.1, 2.0])
        host.status = chance.choice([200, 200, 500, 0, 404])
        host.error = chance.choice([None, None, None, httpx.LocalProtocolError("x"), RuntimeError("x")])
        host.streams = chance.random() < 0.4

    async def caller() -> None:
        await trio.sleep(chance.uniform(0, 20))
        next_answer()
        try:
            with trio.move_on_after(chance.choice([0.0, 0.05, 0.5, 3.0, 60.0])):
                async with client.stream("GET", "http://api.example/") as response:
                    if chance.random() < 0.5:
                        await response.aread()
                    elif chance.random() < 0.2:
                        raise ValueError
        except (httpx.TransportError, HostPaused, RuntimeError, ValueError):
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(150):
            nursery.start_soon(caller)
    assert_nothing_is_held(governor_of(client))
    await trio.sleep(3)
    host.seconds, host.status, host.error, host.streams = 0.0, 200, None, False
    with trio.fail_after(1):
        await fails(client, 200)


@pytest.mark.filterwarnings("ignore:an answer was never closed")
async def test_answer_that_nobody_closed_is_given_back_when_nobody_knows_it_any_more(autojump_clock: object):
    host, client = governed(limits={"*": Limit(concurrency=1)})
    host.streams = True
    for _ in range(3):
        with trio.fail_after(60):
            response = await client.send(client.build_request("GET", "http://api.example/"), stream=True)
        del response
        # The timeout with which the host's time ended was raised in this very step, and until the next one Trio keeps it. From Python 3.12 on the
        # frames of a traceback know their callers, and so the answer is known to httpx's until then.
        await trio.lowlevel.checkpoint()
        gc.collect()
        await trio.sleep(0.1)
    assert_nothing_is_held(governor_of(client))


async def test_jobs_of_a_paused_host_cost_no_attempt_and_few_lines_and_come_through_together(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    host, client = governed(breaker=Breaker(failures=5, pause=5))
    host.status, host.seconds = 503, 0.5
    app, attempts = App(), set()
    app.queue("q", concurrency=50)

    @app.handler("q")
    async def deliver(ctx: Context) -> None:
        attempts.add(ctx.attempt)
        async with ctx.fan_out() as fan:
            fan.post("call", "http://api.example/")

    async with testing.run(app, http=client) as test:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(fails, client, 503)
        await test.enqueue(*(Job("q", "deliver", retry=0) for _ in range(100)))
        await trio.sleep(400)
        assert len(test.scheduled) + len(test.dead) == 100
        assert len(test.dead) < 20  # each of these was let through to look
        host.status, host.most_at_once = 200, 0
        dead = len(test.dead)
        await trio.sleep(200)
        assert (test.scheduled, len(test.dead)) == ([], dead)
    assert attempts == {1}
    assert host.most_at_once >= 5
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("trioworkers")]
    paused, back = [line for line in lines if line.startswith("host ")]
    assert paused.startswith("host api.example is paused for everyone, for 5 s")
    assert back.startswith("host api.example answers again; it was paused for ")
    assert len(lines) <= 2 + 100 * 4  # start, put off, and in the end start and done


async def test_failures_between_successes_pause_nobody(autojump_clock: object):
    host, client = governed(breaker=Breaker(failures=2))
    for _ in range(10):
        host.status = 500
        await fails(client, 500)
        host.status = 404
        await fails(client, 404)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Limit(concurrency=0),
        lambda: Limit(rate="fast"),
        lambda: Limit(rate="0/s"),
        lambda: Breaker(failures=0),
        lambda: Http(max_response_bytes=0),
        lambda: Http(private_addresses=False, http2=True),
    ],
)
def test_wrong_options_are_told(wrong: Callable[[], object]):
    with pytest.raises(ConfigurationError):
        wrong()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("::7f00:1", False),
        ("::", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("64:ff9b::5db8:d822", True),
    ],
)
def test_public_addresses(address: str, public: bool):
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"])
async def test_private_addresses_are_refused_if_asked(host: str):
    async with open_client(Http(private_addresses=False)) as client:
        with pytest.raises((PrivateAddress, httpx.ConnectError)) as refused:
            await client.get(f"http://{host}:1/")
        assert isinstance(refused.value, PrivateAddress) or "127.0.0.1" not in str(refused.value)
