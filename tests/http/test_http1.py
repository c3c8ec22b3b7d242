"""One connection: what it sends, and which answers it believes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import httpx
import pytest
import trio

from trioworkers.http.http1 import MAX_OVERHEAD_BYTES, Connection, encode_head
from trioworkers.http.patience import Patience
from trioworkers.http.tcp import TCPStream


class Wire:
    """A connection whose other end the test holds."""

    def __init__(self, connection: Connection, peer: trio.SocketStream) -> None:
        self.connection = connection
        self.peer = peer

    async def ask(self, answer: bytes, method: str = "GET", *, hang_up: bool = False, **options: object) -> bytes:
        """Send a request, answer it with these bytes, return the body."""
        await self.peer.send_all(answer)
        if hang_up:
            await self.peer.aclose()
        await self.connection.send(httpx.Request(method, "http://host/path?q=1", **options), {})  # type: ignore[arg-type]
        body = b""
        while chunk := await self.connection.read():
            body += chunk
        return body

    async def sent(self, end: bytes) -> bytes:
        """What was sent, up to this end; it may come in pieces."""
        found = b""
        with trio.fail_after(60):
            while not found.endswith(end):
                found += await self.peer.receive_some(65536)
        return found


@pytest.fixture
async def wire(nursery: trio.Nursery) -> AsyncIterator[Wire]:
    accepted: list[trio.SocketStream] = []
    arrived = trio.Event()

    async def accept(stream: trio.SocketStream) -> None:
        accepted.append(stream)
        arrived.set()
        await trio.sleep_forever()

    listeners = await nursery.start(trio.serve_tcp, accept, 0)
    stream = await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
    await arrived.wait()
    tcp = TCPStream(stream, Patience())
    connection = Connection(tcp, tcp)
    yield Wire(connection, accepted[0])
    connection.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: t\r\n\r\n", b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_connection_is_used_again_after_a_whole_answer(wire: Wire, answer: bytes, body: bytes):
    for _ in range(3):
        assert await wire.ask(answer) == body
        assert wire.connection.is_reusable
        assert not wire.connection.has_died()
    assert b"link" not in {name.lower() for name, _ in wire.connection.headers}
    assert b"trailer" not in {name.lower() for name, _ in wire.connection.headers}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    ],
)
async def test_connection_is_not_used_again(wire: Wire, answer: bytes):
    assert await wire.ask(answer) == b"ok"
    assert not wire.connection.is_reusable


@pytest.mark.parametrize(
    ("said", "again"),
    [("close", False), ("Keep-Alive, CLOSE", False), ("keep-alive", True), ("te", True)],
)
async def test_request_that_says_so_is_the_last_on_its_connection(wire: Wire, said: str, again: bool):
    headers = {"Connection": said, "X-Close": "close"}
    for method in ("GET", "HEAD"):
        await wire.ask(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", method, headers=headers)
        assert wire.connection.is_reusable is again


async def test_connection_with_unasked_bytes_is_not_used_again(wire: Wire):
    assert await wire.ask(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == b"ok"
    await wire.peer.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale")
    with trio.fail_after(60):
        while not wire.connection.has_died():
            await trio.sleep(0.01)


async def test_answer_without_length_ends_with_the_connection(wire: Wire):
    assert await wire.ask(b"HTTP/1.1 200 OK\r\n\r\nall of it", hang_up=True) == b"all of it"
    assert not wire.connection.is_reusable


async def test_head_has_no_body_whatever_its_length_says(wire: Wire):
    for _ in range(2):
        assert await wire.ask(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", "HEAD") == b""
        assert wire.connection.is_reusable
    assert await wire.ask(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nA : 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 2\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_OVERHEAD_BYTES + 1),
        b"220 smtp.example.org ESMTP\r\n",
    ],
)
async def test_answer_that_could_be_read_in_two_ways_is_an_error(wire: Wire, answer: bytes):
    with pytest.raises(httpx.RemoteProtocolError):
        await wire.ask(answer, hang_up=True)
    assert not wire.connection.is_reusable


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ],
)
async def test_answer_that_breaks_off_is_an_error(wire: Wire, answer: bytes):
    with pytest.raises(httpx.RemoteProtocolError, match="closed the connection"):
        await wire.ask(answer, hang_up=True)
    assert not wire.connection.is_reusable


async def test_body_of_a_request_goes_out_whole_or_in_chunks(wire: Wire):
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async def pieces() -> AsyncIterator[bytes]:
        yield b"hello "
        yield b""
        yield b"world"

    await wire.ask(ok, "POST", json={"a": 1})
    sent = await wire.sent(b'\r\n\r\n{"a":1}')
    assert sent.startswith(b"POST /path?q=1 HTTP/1.1\r\nHost: host\r\n")
    await wire.ask(ok, "POST", content=pieces())
    await wire.sent(b"\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n")
    async with aclosing(pieces()) as content:  # it won't be read to its end
        with pytest.raises(httpx.LocalProtocolError, match="announces 5 bytes"):
            await wire.ask(ok, "POST", content=content, headers={"Content-Length": "5"})


async def test_server_that_refuses_early_is_heard(wire: Wire):
    answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
    with trio.fail_after(60):
        assert await wire.ask(answer, "POST", content=b"x" * 100) == b"no"
    assert wire.connection.status == 413


async def test_endless_trailers_are_an_error(wire: Wire):
    async with trio.open_nursery() as nursery:
        start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"

        async def flood() -> None:
            while True:
                await wire.peer.send_all(b"X: " + b"x" * 8000 + b"\r\n")

        await wire.peer.send_all(start)
        nursery.start_soon(flood)
        await wire.connection.send(httpx.Request("GET", "http://host/"), {})
        with pytest.raises(httpx.RemoteProtocolError, match="longer than"):
            while await wire.connection.read():
                pass
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "change",
    [
        lambda: httpx.Request("GET", "http://h/", headers={"A": "b\r\nEvil: 1"}),
        lambda: httpx.Request("GET", "http://h/", headers={"A": "b\nEvil: 1"}),
        lambda: httpx.Request("GET", "http://h/", headers={"A": "b\0"}),
        lambda: httpx.Request("GET", "http://h/", headers={"A b": "c"}),
        lambda: httpx.Request("GET", "http://h/", headers={"A:": "c"}),
        lambda: httpx.Request("GET / HTTP/1.1\r\nX:", "http://h/"),
        lambda: httpx.Request("GÉT", "http://h/"),
    ],
)
def test_request_that_would_be_two_is_not_sent(change: Callable[[], httpx.Request]):
    with pytest.raises(httpx.LocalProtocolError):
        encode_head(change())
