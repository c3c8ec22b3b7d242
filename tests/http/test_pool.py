"""The connection pool, against real sockets that behave well and badly."""

from __future__ import annotations

import gzip
import random
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from trioworkers import Http, PrivateAddress, ResponseTooLarge
from trioworkers.http import open_client
from trioworkers.http.pool import PoolTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def zipped(content: bytes, level: int = 9) -> bytes:
    """Without the time of day in it, which would make names of tests differ from one test process to the next."""
    return gzip.compress(content, level, mtime=0)


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
            nursery.start_soon(client.expire)
            yield peer, f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", client
        nursery.cancel_scope.cancel()


async def good(peer: Peer, stream: trio.SocketStream) -> None:
    await stream.send_all(OK)


async def slow(peer: Peer, stream: trio.SocketStream) -> None:
    await trio.sleep(0.01)
    await stream.send_all(OK)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.01)


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
            await until(lambda: peer.open == 0)
        assert (peer.connections, peer.requests) == (3, 3)


async def test_request_whose_connection_dies_is_not_sent_twice():
    async def die(peer: Peer, stream: trio.SocketStream) -> None:
        await stream.aclose()

    async with served(die) as (peer, url, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(url, content=b"")
        assert peer.requests == 1


async def test_timeouts_and_refusals_are_httpxs_own_errors(patient_clock: object):
    async def never(peer: Peer, stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with served(never, timeout=1) as (_, url, client):
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
        assert pool._active == 0
        await until(lambda: peer.open == len(pool._idle))
        assert peer.open <= 20
        assert (await client.get(url)).text == "ok"


async def test_answer_that_is_too_long_is_refused_also_when_it_is_compressed():
    packed = zipped(b"x" * 100_000)

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
            with pytest.raises(httpx.ConnectError, match="certificate is not trusted: unable to get"):
                await client.get(f"https://localhost:{port}/")
        nursery.cancel_scope.cancel()


async def test_idle_connections_are_closed_when_their_time_has_come():
    async with served(good, keepalive_expiry=0.05) as (peer, url, client):
        for _ in range(2):
            await client.get(url)
            assert len(pool_of(client)._idle) == 1
            await until(lambda: not peer.open)
            assert (len(pool_of(client)._idle), len(pool_of(client)._stacks)) == (0, 0)
        assert peer.connections == 2


async def test_no_more_connections_are_open_than_the_limit_over_all_hosts():
    async with served(good, max_connections=3) as (peer, url, client):
        for number in range(1, 9):
            await client.get(url.replace("127.0.0.1", f"127.0.0.{number}"))
        await until(lambda: peer.open <= 3)
        assert len(pool_of(client)._idle) == len(pool_of(client)._stacks) == 3
        await client.get(url.replace("127.0.0.1", "127.0.0.8"))
        assert peer.connections == 8  # the youngest are kept


async def test_request_is_not_repeated_when_a_kept_connection_dies_under_it():
    async def once(peer: Peer, stream: trio.SocketStream) -> None:
        if peer.requests == 1:
            await stream.send_all(OK)
        else:
            await stream.aclose()

    async with served(once) as (peer, url, client):
        assert (await client.post(url, content=b"")).status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(url, content=b"")
        assert (peer.connections, peer.requests) == (1, 2)


async def test_server_that_answers_before_the_upload_ends_is_heard_and_spared_the_rest():
    async def refuse(peer: Peer, stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        await trio.sleep_forever()  # it neither reads nor hangs up

    async with served(refuse) as (_, url, client):
        with trio.fail_after(60):
            assert (await client.post(url, content=b"x" * 50_000_000)).status_code == 413
        assert repr(pool_of(client)) == "<PoolTransport: 0 active, 0 idle, 0 waiting>"


async def test_large_body_is_sent_whole():
    received = 0

    async def count(stream: trio.SocketStream) -> None:
        nonlocal received
        async for chunk in stream:
            received += len(chunk)
            if received > 20_000_000:
                await stream.send_all(OK)

    async with trio.open_nursery() as nursery, open_client(Http()) as client:
        listeners = await nursery.start(trio.serve_tcp, count, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        assert (await client.post(url, content=b"x" * 20_000_000)).text == "ok"
        assert "1 idle" in repr(pool_of(client))
        nursery.cancel_scope.cancel()


async def answer_with(body: bytes, encoding: str) -> Callable[[Peer, trio.SocketStream], object]:
    async def answer(peer: Peer, stream: trio.SocketStream) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
        await stream.send_all(head % (encoding.encode(), len(body)) + body)

    return answer


async def test_bomb_is_not_unpacked():
    bomb = zipped(bytes(50_000_000), 1)
    async with served(await answer_with(bomb, "gzip"), max_response_bytes=1_000_000) as (_, url, client):
        tracemalloc.start()
        with pytest.raises(ResponseTooLarge):
            await client.get(url)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "nonsense", "identity, br", ",", ""])
async def test_encodings_that_nobody_asked_for_stay_packed(encoding: str):
    async with served(await answer_with(b"packed", encoding), max_response_bytes=6) as (_, url, client):
        assert (await client.get(url)).content == b"packed"
    async with served(await answer_with(b"packed", encoding), max_response_bytes=5) as (_, url, client):
        with pytest.raises(ResponseTooLarge):
            await client.get(url)


@pytest.mark.parametrize("length", [0, 10, 500_000])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate", "identity"])
async def test_compressed_answers_are_read(encoding: str, length: int):
    text = random.Random(1).randbytes(length)
    pack = {"gzip": zipped, "deflate": zlib.compress, "raw deflate": lambda b: zlib.compress(b)[2:-4]}
    body = pack.get(encoding, bytes)(text)
    async with served(await answer_with(body, encoding.rpartition(" ")[2])) as (_, url, client):
        response = await client.get(url)
        assert response.content == text
        assert response.num_bytes_downloaded == len(body)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"not gzip at all", "gzip"),
        (b"not deflate at all", "deflate"),
        (b"\x1f", "gzip"),
        (zipped(b"hello")[:-1], "gzip"),
        (zipped(b"hello")[:-8], "gzip"),
        (zipped(b"hello" * 50_000)[:100], "gzip"),
        (zipped(b"hello")[:10], "gzip"),
        (zipped(b"hello") + zipped(b"world")[:-3], "gzip"),
        (zipped(b"hello")[:-8] + bytes(8), "gzip"),
        (zlib.compress(b"hello")[:-1], "deflate"),
        (zipped(zlib.compress(b"hello")[:-1]), "deflate, gzip"),
        (zipped(b"hello"), "gzip, gzip"),
        (b"x", "gzip, gzip, gzip, gzip, gzip, gzip"),
    ],
)
async def test_broken_compression_is_an_error(body: bytes, encoding: str):
    async with served(await answer_with(body, encoding)) as (_, url, client):
        with pytest.raises(httpx.DecodingError):
            await client.get(url)
        assert "0 active" in repr(pool_of(client))


MEMBERS = zipped(b"hello ") + zipped(b"") + zipped(b"world")


@pytest.mark.parametrize(
    ("body", "encoding", "text"),
    [
        (MEMBERS, "gzip", b"hello world"),
        (MEMBERS + bytes(512), "gzip", b"hello world"),  # padding, as tar has it
        (MEMBERS + b"\x1f", "gzip", b"hello world"),
        (MEMBERS + b"rubbish", "GZip", b"hello world"),
        (b"", "gzip", b""),
        (zlib.compress(b"hello") + b"rubbish", "deflate", b"hello"),
        (zipped(zlib.compress(b"hello")), "deflate, br, gzip", b"hello"),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
async def test_all_members_are_unpacked_however_they_come(body: bytes, encoding: str, text: bytes, piece: int):
    async def answer(peer: Peer, stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n")
        await stream.send_all(b"Content-Encoding: %b\r\n\r\n" % encoding.encode())
        for start in range(0, len(body), piece):
            part = body[start : start + piece]
            await stream.send_all(b"%x\r\n%b\r\n" % (len(part), part))
            await trio.lowlevel.checkpoint()
        await stream.send_all(b"0\r\n\r\n")

    async with served(answer) as (_, url, client):
        assert (await client.get(url)).content == text


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (zipped(zipped(bytes(50_000_000))), "gzip, gzip"),
        (zipped(zipped(b"") * 200_000), "gzip, gzip"),  # nothing in the end, but much before
        (zipped(b"") * 100_000, "gzip"),  # nothing at all, for ever
    ],
)
async def test_answer_that_is_small_inside_and_out_is_bounded_too(body: bytes, encoding: str):
    async with served(await answer_with(body, encoding), max_response_bytes=1_000_000) as (_, url, client):
        tracemalloc.start()
        with pytest.raises((ResponseTooLarge, httpx.DecodingError)):
            await client.get(url)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()


async def test_others_get_their_turn_while_a_body_is_unpacked(nursery: trio.Nursery):
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await trio.lowlevel.checkpoint()

    async with served(await answer_with(gzip.compress(bytes(10_000_000)), "gzip")) as (_, url, client):
        nursery.start_soon(count)
        response = await client.send(client.build_request("GET", url), stream=True)
        before = rounds
        await response.aread()
        assert rounds - before > 5
        nursery.cancel_scope.cancel()


async def test_client_that_is_lent_to_handlers_stays_open_whatever_they_do(caplog: pytest.LogCaptureFixture):
    async with served(good) as (_, url, owned):
        client = owned.lend()  # type: ignore[attr-defined]
        for _ in range(2):
            async with client as same:
                assert (await same.get(url)).text == "ok"
            await client.aclose()
            assert (await client.get(url, params={"a": "b"})).text == "ok"
        assert caplog.text.count("stays open") == 1
        await client.take_back()
        with pytest.raises(RuntimeError, match="closed"):
            await client.get(url)


async def test_redirect_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch):
    async def elsewhere(peer: Peer, stream: trio.SocketStream) -> None:
        location = b"http://127.0.0.2:%d/" % stream.socket.getsockname()[1]
        await stream.send_all(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % location)

    monkeypatch.setattr("trioworkers.http.names.is_public", lambda address: address == "127.0.0.1")
    async with served(elsewhere, private_addresses=False) as (peer, url, client):
        assert (await client.get(url)).status_code == 302  # not followed unless asked
        with pytest.raises(PrivateAddress, match=r"127\.0\.0\.2"):
            await client.get(url, follow_redirects=True)
        assert peer.requests == 2


async def test_answers_through_a_proxy_are_bounded_too():
    async def proxied(peer: Peer, stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)

    async with served(proxied) as (peer, url, _):
        async with open_client(Http(proxy=url, max_response_bytes=100_000)) as client:
            assert len((await client.get("http://example.org/")).content) == 100_000
        async with open_client(Http(proxy=url, max_response_bytes=99_999)) as client:
            with pytest.raises(ResponseTooLarge):
                await client.get("http://example.org/")
        assert peer.requests == 2


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("GET", {}),
        ("DELETE", {}),
        ("POST", {}),
        ("POST", {"json": {"a": ["Zoë", 1.5, None]}}),
        ("PUT", {"content": "Zoë"}),
        ("PATCH", {"content": b"x", "timeout": None}),
        ("POST", {"json": 0}),
        ("POST", {"data": {"a": "b"}}),
        ("GET", {"params": {"a": "b"}}),
        ("POST", {"content": b""}),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"X": "y", "user-agent": "me"}, {"Host": "other", "content-type": "text/x"}])
async def test_shorter_way_sends_what_httpx_sends(method: str, options: dict[str, object], headers: dict[str, str]):
    sent: list[list[bytes]] = []

    async def note(stream: trio.SocketStream) -> None:
        sent.append(sorted((await stream.receive_some(65536)).split(b"\r\n")))
        await stream.send_all(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    async with trio.open_nursery() as nursery, open_client(Http()) as client:
        listeners = await nursery.start(trio.serve_tcp, note, 0)
        url = httpx.URL(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/p?q=1")
        usual = await client.request(method, url, headers=headers, **options)  # type: ignore[arg-type]
        short = await client.exchange(method, url, headers, options)
        nursery.cancel_scope.cancel()
    assert sent[0] == sent[1]
    for response in (usual, short):
        assert (response.text, response.status_code, response.request.url) == ("ok", 200, response.url)
        assert response.elapsed.total_seconds() < 5


async def test_shorter_way_names_the_request_in_its_errors():
    async with open_client(Http()) as client:
        with pytest.raises(httpx.ConnectError) as failed:
            await client.exchange("GET", httpx.URL("http://127.0.0.1:1/"), {}, {})
        assert failed.value.request.url.port == 1


async def test_http2_and_proxies_go_through_httpxs_own_transport():
    async with open_client(Http(proxy="http://127.0.0.1:1")) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://example.org/")
