"""Requests on their way out: what could be read as another request, or as two, is not sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import reduce

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trioworkers import FanOutError, Http
from trioworkers.http import open_client
from trioworkers.http.outgoing import announced_length, encode_head, whole_body
from trioworkers.jobs.fan_out import open_fan_out
from trioworkers.jobs.progress import Progress

SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: h\r\n\r\n"


class Sink:
    """Takes whatever comes, and answers each time that something comes, if at all."""

    def __init__(self, *, answers: bool = True) -> None:
        self.received = b""
        self.url = ""
        self._answers = answers

    async def converse(self, stream: trio.SocketStream) -> None:
        async for chunk in stream:
            self.received += chunk
            if self._answers:
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@asynccontextmanager
async def sink(*, answers: bool = True) -> AsyncIterator[Sink]:
    found = Sink(answers=answers)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, found.converse, 0)
        found.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield found
        nursery.cancel_scope.cancel()


class Pieces:
    """No generator: httpx leaves those unfinished."""

    def __init__(self) -> None:
        self._left = [SMUGGLED, b"hello"]

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


LIES: dict[str, dict[str, object]] = {
    "too short": {"headers": {"Content-Length": "5"}, "content": b"hello" + SMUGGLED},
    "too long": {"headers": {"Content-Length": "50"}, "content": b"hello"},
    "nothing there": {"headers": {"Content-Length": "50"}},
    "negative": {"headers": {"Content-Length": "-1"}, "content": b"hello"},
    "with a sign": {"headers": {"Content-Length": "+5"}, "content": b"hello"},
    "with an underscore": {"headers": {"Content-Length": "0_5"}, "content": b"hello"},
    "hexadecimal": {"headers": {"Content-Length": "0x5"}, "content": b"hello"},
    "a list": {"headers": {"Content-Length": "5, 5"}, "content": b"hello"},
    "empty": {"headers": {"Content-Length": ""}, "content": b""},
    "huge": {"headers": {"Content-Length": "9" * 5000}, "content": b"hello"},
    "twice": {"headers": [("Content-Length", "5"), ("content-length", "5")], "content": b"hello"},
    "twice, and different": {"headers": {"Content-Length": "5", "content-length": "6"}, "content": b"hello"},
    "chunked, and it isn't": {"headers": {"Transfer-Encoding": "chunked"}, "content": b"0\r\n\r\n" + SMUGGLED},
    "chunked, without a body": {"headers": {"transfer-encoding": "chunked"}},
    "chunked by another name": {"headers": {"Transfer-Encoding": "xchunked"}, "content": Pieces()},
    "chunked and more": {"headers": {"Transfer-Encoding": "gzip, chunked"}, "content": Pieces()},
    "identity": {"headers": {"Transfer-Encoding": "identity"}, "content": b"hello"},
    "both": {"headers": {"Transfer-Encoding": "chunked", "Content-Length": "5"}, "content": Pieces()},
    "two hosts": {"headers": [("Host", "h"), ("host", "other")]},
    "a host of two lines": {"headers": {"Host": "h\r\nX: y"}},
    "a host with a space": {"headers": {"Host": "h x"}},
    "a header of two lines": {"headers": {"X": "a\r\nEvil: 1"}},
    "a folded header": {"headers": {"X": "a\r\n b"}},
    "a bare line feed": {"headers": {"X": "a\nEvil: 1"}},
    "a zero": {"headers": {"X": "a\0"}},
    "a control character": {"headers": {"X": "a\x01b"}},
    "a name with a colon": {"headers": {"X:": "y"}},
    "a name with a space": {"headers": {"X ": "y"}},
    "no name": {"headers": {"": "y"}},
}
UPLOADS = {"too short": b"5", "too long": b"5000"}


@pytest.mark.parametrize("options", LIES.values(), ids=LIES)
async def test_request_that_lies_about_itself_is_not_sent(options: dict[str, object]):
    async with sink() as server:
        for proxy in (None, server.url):
            async with open_client(Http(proxy=proxy)) as client:
                with pytest.raises(httpx.LocalProtocolError):
                    await client.post(server.url, **options)  # type: ignore[arg-type]
                assert server.received == b""


@pytest.mark.parametrize("length", [5, 5000])
@pytest.mark.parametrize("is_behind_proxy", [False, True])
async def test_no_byte_more_goes_out_than_was_announced(length: int, is_behind_proxy: bool):
    async with (
        sink(answers=False) as server,
        open_client(Http(proxy=server.url if is_behind_proxy else None)) as client,
    ):
        with pytest.raises(httpx.LocalProtocolError, match=f"announces {length} bytes"):
            await client.post(server.url, content=Pieces(), headers={"Content-Length": str(length)})
        await trio.testing.wait_all_tasks_blocked(0.01)
        head, _, body = server.received.partition(b"\r\n\r\n")
        assert head.count(b"HTTP/1.1") == 1
        assert len(body) <= length


@pytest.mark.parametrize("length", [5 + len(SMUGGLED), None])
async def test_body_in_pieces_is_sent_as_announced(length: int | None):
    headers = {} if length is None else {"Content-Length": str(length)}
    async with sink() as server, open_client(Http()) as client:
        assert (await client.post(server.url, content=Pieces(), headers=headers)).text == "ok"
        assert server.received.endswith(b"hello" + SMUGGLED if length else b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("method", ["CONNECT", "GET /x HTTP/1.1\r\nX:", "G T", "", "GÉT"])
async def test_method_that_is_none_is_not_sent(method: str):
    async with sink() as server, open_client(Http()) as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.request(method, server.url)
        assert server.received == b""


CALLS: dict[str, dict[str, object]] = {
    "a wrong length": {"content": b"x", "headers": {"Content-Length": "7"}},
    "both framings": {"content": b"x", "headers": {"Transfer-Encoding": "chunked"}},
    "no form in JSON": {"json": {1, 2}},
    "not a number": {"json": float("nan")},
    "endless depth": {"json": reduce(lambda inner, _: [inner], range(100_000), [])},
    "a header in Chinese": {"headers": {"X": "你好"}},
    "a header that is a number": {"headers": {"X": 5}},
    "a header of two lines": {"headers": {"X": "a\r\nb: c"}},
    "half a character": {"content": "\ud800"},
    "an option that isn't there": {"nonsense": 1},
}


@pytest.mark.parametrize("options", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("more", [{}, {"params": {"a": "b"}}])
async def test_call_that_cannot_be_sent_has_failed_for_good(options: dict[str, object], more: dict[str, object]):
    async with sink() as server, open_client(Http()) as client:
        with pytest.raises(FanOutError) as failed:
            async with open_fan_out(client, "jid", Progress()) as fan:
                fan.post("call", server.url, **options, **more)
        assert [failure.permanent for failure in failed.value.exceptions] == [True]
        assert server.received == b""


@pytest.mark.parametrize("headers", [{b"X": b"y"}, {"X": b"y"}, httpx.Headers({"X": "y"}), [("X", "y")], None])
async def test_headers_may_be_given_as_httpx_takes_them(headers: object):
    async with sink() as server, open_client(Http()) as client:
        async with open_fan_out(client, "jid", Progress()) as fan:
            fan.post("call", server.url, headers=headers, content=b"x")
        assert fan.responses["call"].text == "ok"
        assert (b"\r\nx: y\r\n" in server.received.lower()) is (headers is not None)


texts = st.text(st.characters(max_codepoint=255), max_size=12)


@given(
    method=st.one_of(st.sampled_from(["GET", "POST"]), texts),
    path=texts,
    headers=st.lists(
        st.tuples(st.one_of(st.sampled_from(["Content-Length", "Transfer-Encoding", "Host", "X"]), texts), texts)
    ),
    body=st.binary(max_size=20),
)
def test_what_is_sent_is_one_request_with_the_body_that_it_announces(
    method: str, path: str, headers: list[tuple[str, str]], body: bytes
):
    try:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        request = httpx.Request(method, httpx.URL("http://h", path=f"/{path}"), headers=raw, content=body)
        head = encode_head(request)
        announced = announced_length(request, head)
    except (httpx.LocalProtocolError, httpx.InvalidURL, ValueError):
        return
    lines = head.decode("latin-1").split("\r\n")
    assert lines[-2:] == ["", ""]
    assert len(lines) == len(request.headers.raw) + 3
    assert lines[0].count(" ") == 2
    assert not any(letter in head for letter in (b"\0", b"\n\n"))
    said = [line.partition(": ")[2] for line in lines[1:-2] if line.lower().startswith("content-length:")]
    assert "transfer-encoding:" not in head.decode("latin-1").lower()
    assert (said or ["0"]) == [str(int(said[0]) if said else 0).zfill(len(said[0]) if said else 1)]
    assert announced == len(whole_body(request) or b"") == int(said[0] if said else 0)


def make(change: Callable[[httpx.Request], None]) -> httpx.Request:
    request = httpx.Request("POST", "http://h/", content=b"hello")
    change(request)
    return request


@pytest.mark.parametrize(
    "change",
    [
        lambda request: request.headers.pop("content-length"),
        lambda request: request.headers.pop("host"),
        lambda request: (
            setattr(request, "stream", httpx.ByteStream(b"hello" + SMUGGLED)) or request.__dict__.pop("_content")
        ),
    ],
)
def test_request_that_somebody_changed_afterwards_is_not_sent(change: Callable[[httpx.Request], None]):
    with pytest.raises(httpx.LocalProtocolError):
        announced_length(make(change), encode_head(make(change)))
