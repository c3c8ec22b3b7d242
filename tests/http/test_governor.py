"""Limits, circuit breaker, bounds and the guard, over real sockets; times on Trio's clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from trioworkers import Breaker, ConfigurationError, HostPaused, Http, Limit, PrivateAddress
from trioworkers.http import open_client
from trioworkers.http.dial import is_public
from trioworkers.http.governor import MANY_HOSTS, GovernedTransport


class Host(httpx.AsyncBaseTransport):
    """A host that takes `seconds` for each call and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.seconds = 0.1
        self.calls = 0
        self.at_once = self.most_at_once = 0
        self.times: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        self.times.append(trio.current_time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.at_once -= 1
        if self.status == 0:
            raise httpx.ConnectError("no")
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
