"""The connection pool, against real sockets that behave well and badly."""

from __future__ import annotations

import gzip
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from trioworkers import Http, ResponseTooLarge
from trioworkers.http import open_client
from trioworkers.http.pool import PoolTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """A server whose answers the test scripts; counts connections and requests."""

    def __init__(self, answer: Callable[[Peer, trio.SocketStream], object]) -> None:
        self.answer = answer
        self.connections = self.requests = self.open = 0

    async def converse(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.open += 1
        buffer = b""
        try:
            while chunk := await stream.receive_some(65536):
                buffer += chunk
                while b"\r\n\r\n" in buffer:
                    buffer = buffer.partition(b"\r\n\r\n")[2]
                    self.requests += 1
                    await self.answer(self, stream)  # type: ignore[misc]
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1


@asynccontextmanager
async def served(
    answer: Callable[[Peer, trio.SocketStream], object], **options: object
) -> AsyncIterator[tuple[Peer, str, httpx.AsyncClient]]:
    peer = Peer(answer)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, peer.converse, 0)
        async with open_client(Http(**options)) as client:  # type: ignore[arg-type]
            yield peer, f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", client
        nursery.cancel_scope.cancel()


async def good(peer: Peer, stream: trio.SocketStream) -> None:
    await stream.send_all(OK)


async def slow(peer: Peer, stream: trio.SocketStream) -> None:
    await trio.sleep(0.01)
    await stream.send_all(OK)


def pool_of(client: httpx.AsyncClient) -> PoolTransport:
    pool = client._transport.inner  # type: ignore[attr-defined]
    assert isinstance(pool, PoolTransport)
    return pool


async def test_connection_is_used_again():
    async with served(good) as (peer, url, client):
        for _ in range(5):
            assert (await client.get(url)).text == "ok"
        assert (peer.connections, peer.requests) == (1, 5)
        assert repr(pool_of(client)) == "<PoolTransport: 0 active, 1 idle, 0 waiting>"


async def test_no_more_than_the_limit_at_once():
    async with served(slow, max_connections=3) as (peer, url, client):
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(client.get, url)
        assert peer.requests == 30
        assert peer.connections <= 3


async def test_connection_that_the_server_closed_while_idle_is_not_used():
    async def once(peer: Peer, stream: trio.SocketStream) -> None:
        await stream.send_all(OK)
        await stream.aclose()

    async with served(once) as (peer, url, client):
        for _ in range(3):
            assert (await client.post(url, content=b"")).status_code == 200
            await trio.sleep(0.05)
        assert (peer.connections, peer.requests) == (3, 3)


async def test_request_whose_connection_dies_is_not_sent_twice():
    async def die(peer: Peer, stream: trio.SocketStream) -> None:
        await stream.aclose()

    async with served(die) as (peer, url, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(url, content=b"")
        assert peer.requests == 1


async def test_timeouts_and_refusals_are_httpxs_own_errors():
    async def never(peer: Peer, stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with served(never, timeout=0.05) as (_, url, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.get(url)
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("nonsense://x/")
        assert repr(pool_of(client)) == "<PoolTransport: 0 active, 0 idle, 0 waiting>"


async def test_pool_is_whole_after_a_storm_of_cancellations():
    chance = random.Random(7)

    async with served(slow, max_connections=20) as (peer, url, client):

        async def impatient() -> None:
            with trio.move_on_after(chance.uniform(0.0, 0.08)):
                await client.get(url)

        async with trio.open_nursery() as nursery:
            for _ in range(400):
                nursery.start_soon(impatient)
        pool = pool_of(client)
        assert pool._permits.statistics().borrowed_tokens == 0
        await trio.sleep(0.05)
        assert peer.open == len(pool._idle) <= 20
        assert (await client.get(url)).text == "ok"


async def test_answer_that_is_too_long_is_refused_also_when_it_is_compressed():
    packed = gzip.compress(b"x" * 100_000)

    async def long(peer: Peer, stream: trio.SocketStream) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        await stream.send_all(head + packed)

    async with served(long, max_response_bytes=99_999) as (_, url, client):
        with pytest.raises(ResponseTooLarge):
            await client.get(url)
        async with client.stream("GET", url) as response:
            assert sum([len(chunk) async for chunk in response.aiter_bytes()]) == 100_000
        assert "0 active" in repr(pool_of(client))


async def test_cookies_of_one_job_are_not_sent_for_another():
    requests: list[bytes] = []

    async def cookie(peer: Peer, stream: trio.SocketStream) -> None:
        await stream.send_all(OK.replace(b"\r\n", b"\r\nSet-Cookie: session=secret\r\n", 1))

    async with served(cookie) as (_, url, client):
        response = await client.get(url)
        assert response.cookies["session"] == "secret"
        request = client.build_request("GET", url)
        requests.append(request.headers.get("cookie", "").encode())
    assert requests == [b""]


async def test_tls_is_checked_and_used_again(tmp_path: Path):
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    connections = 0

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        nonlocal connections
        connections += 1
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(65536):
                await stream.send_all(OK)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, answer, 0, server_context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        async with open_client(Http(verify=client_context)) as client:
            for _ in range(3):
                assert (await client.get(f"https://localhost:{port}/")).text == "ok"
            assert connections == 1
            with pytest.raises(httpx.ConnectError, match=r"(?i)hostname|mismatch|not valid"):
                await client.get(f"https://127.0.0.1:{port}/")
        async with open_client(Http()) as client:
            with pytest.raises(httpx.ConnectError, match=r"(?i)certificate verify failed"):
                await client.get(f"https://localhost:{port}/")
        nursery.cancel_scope.cancel()


async def test_http2_and_proxies_go_through_httpxs_own_transport():
    async with open_client(Http(proxy="http://127.0.0.1:1")) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://example.org/")
