"""A status that was read counts, whatever is wrong with the answer after it."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable

import httpx
import pytest
import trio
import trio.testing
from test_pool import Peer, served

from trioworkers import CallFailed, FanOutError, Http, Limit, ResponseTooLarge
from trioworkers.http import open_client
from trioworkers.jobs.fan_out import FanOut, open_fan_out
from trioworkers.jobs.progress import Progress

CHUNKED = b"Transfer-Encoding: chunked\r\n"
ENDLESS = b"X: " + b"x" * 8000 + b"\r\n"
AFTER_THE_STATUS = {
    "a body that breaks off": b"Content-Length: 9\r\n\r\nhello",
    "no body at all": b"Content-Length: 9\r\n\r\n",
    "chunks that break off": CHUNKED + b"\r\n5\r\nhello\r\n",
    "chunks of nonsense": CHUNKED + b"\r\nZZ\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"\r\n2\r\nhello\r\n0\r\n\r\n",
    "endless trailers": CHUNKED + b"\r\n0\r\n" + ENDLESS * 20,
    "no gzip": b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "half a gzip": b"Content-Encoding: gzip\r\nContent-Length: 15\r\n\r\n" + gzip.compress(b"hello" * 9)[:15],
    "a long body": b"Content-Length: 2000\r\n\r\n" + b"x" * 2000,
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a length that is none": b"Content-Length: many\r\n\r\nhello",
    "a length and chunks": b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "a header that is none": b"this is no header\r\n\r\n",
    "bare line feeds": b"A: b\nContent-Length: 2\n\nok",
    "a header that breaks off": b"Content-Le",
    "endless headers": ENDLESS * 20,
}


def answering(
    status: bytes, rest: bytes, *, at_once: bool, hangs: bool = False
) -> Callable[[Peer, trio.SocketStream], object]:
    async def answer(peer: Peer, stream: trio.SocketStream) -> None:
        start = b"HTTP/1.1 " + status + b"\r\nServer: x\r\n"
        if at_once:
            await stream.send_all(start + rest)
        else:
            await stream.send_all(start)
            await trio.testing.wait_all_tasks_blocked(0.002)
            await stream.send_all(rest)
        if hangs:
            await trio.sleep_forever()
        await stream.aclose()

    return answer


async def outcome_of(
    client: httpx.AsyncClient, method: str, url: str, **options: object
) -> tuple[FanOut, Progress, CallFailed | None]:
    progress = Progress()
    try:
        async with open_fan_out(client, "jid", progress) as fan:
            fan.request("call", method, url, **options)  # type: ignore[arg-type]
    except FanOutError as error:
        (failure,) = error.exceptions
        return fan, progress, failure
    return fan, progress, None


WAYS = {
    "short": {},
    "with a length of its own": {"headers": {"Content-Length": "1"}, "content": b"x"},
    "long": {"content": b"x" * 200_000},
}


@pytest.mark.parametrize("rest", AFTER_THE_STATUS.values(), ids=AFTER_THE_STATUS)
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_what_is_wrong_after_a_success_does_not_send_it_again(
    rest: bytes, at_once: bool, way: dict[str, object], caplog: pytest.LogCaptureFixture
):
    async with served(answering(b"201 Created", rest, at_once=at_once), max_response_bytes=1000) as (_, url, client):
        fan, progress, failure = await outcome_of(client, "POST", url, **way)
        assert (failure, progress.done) == (None, ["call"])
        assert fan.responses["call"].status_code == 201
        with pytest.raises((httpx.TransportError, httpx.DecodingError, ResponseTooLarge)):
            _ = fan.responses["call"].content
        assert "201 Created, but what comes after it can't be read" in caplog.text
        assert "0 active" in repr(client._pool)  # type: ignore[attr-defined]


WITH_A_HEAD = [
    name for name, rest in AFTER_THE_STATUS.items() if (b"\r\n\r\n" in rest and "bod" in name) or "chunk" in name
]


@pytest.mark.parametrize("name", [*WITH_A_HEAD, "half a gzip"])
async def test_another_client_is_read_likewise_once_it_tells_the_status(name: str):
    answer = answering(b"200 OK", AFTER_THE_STATUS[name], at_once=False)
    async with served(answer) as (_, url, _), httpx.AsyncClient() as client:
        fan, progress, failure = await outcome_of(client, "POST", url)
        assert (failure, progress.done, fan.responses["call"].status_code) == (None, ["call"], 200)


@pytest.mark.parametrize("rest", AFTER_THE_STATUS.values(), ids=AFTER_THE_STATUS)
@pytest.mark.parametrize(
    ("status", "permanent"), [(b"404 Not Found", True), (b"503 Service Unavailable", False), (b"429 Too Many", False)]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_status_of_a_failure_decides_whatever_its_body_is(
    rest: bytes, status: bytes, permanent: bool, method: str
):
    async with served(answering(status, rest, at_once=True), max_response_bytes=1000) as (_, url, client):
        _, progress, failure = await outcome_of(client, method, url)
        assert failure is not None
        assert (failure.permanent, failure.reason) == (permanent, status.decode())
        assert progress.done == []


@pytest.mark.parametrize("name", sorted(AFTER_THE_STATUS))
async def test_get_without_its_body_was_in_vain(name: str):
    async with served(answering(b"200 OK", AFTER_THE_STATUS[name], at_once=True), max_response_bytes=1000) as (
        _,
        url,
        client,
    ):
        _, progress, failure = await outcome_of(client, "GET", url)
        assert failure is not None
        assert failure.permanent is (name == "a long body")
        assert progress.done == []


async def test_bytes_that_nobody_asked_for_spoil_no_answer():
    whole = b"Content-Length: 5\r\n\r\nhello"
    for more in (b"rubbish", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"\0"):
        async with served(answering(b"200 OK", whole + more, at_once=True)) as (_, url, client):
            for method in ("GET", "POST"):
                fan, _, failure = await outcome_of(client, method, url)
                assert failure is None
                assert fan.responses["call"].content == b"hello"
            assert "0 idle" in repr(client._pool)  # type: ignore[attr-defined]


@pytest.mark.parametrize("rest", [b"Content-Length: 9\r\n\r\nhell", CHUNKED + b"\r\n", b"X: y"])
async def test_body_that_never_ends_is_waited_for_once(patient_clock: object, rest: bytes):
    async with served(answering(b"200 OK", rest, at_once=True, hangs=True), timeout=1) as (_, url, client):
        fan, progress, failure = await outcome_of(client, "POST", url)
        assert (failure, progress.done) == (None, ["call"])
        with pytest.raises(httpx.ReadTimeout):
            fan.responses["call"].json()


async def test_job_that_is_stopped_while_a_body_comes_does_not_send_it_again():
    stalled = b"Content-Length: 9\r\n\r\nhell"
    async with served(answering(b"200 OK", stalled, at_once=True, hangs=True)) as (_, url, client):
        for method, done in (("POST", ["call"]), ("PUT", ["call"]), ("GET", [])):
            progress = Progress()
            async with trio.open_nursery() as nursery:

                async def call(method: str = method, progress: Progress = progress) -> None:
                    async with open_fan_out(client, "jid", progress) as fan:
                        fan.request("call", method, url)

                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked(0.3)  # it has read what there is
                nursery.cancel_scope.cancel()
            assert progress.done == done


async def test_client_whose_request_somebody_has_made_his_own_is_called_as_it_wants():
    class Signing(httpx.AsyncClient):
        async def request(self, *args: object, **options: object) -> httpx.Response:  # type: ignore[override]
            return httpx.Response(299, request=httpx.Request("GET", "http://h/"))

    async with Signing() as client:
        fan, progress, failure = await outcome_of(client, "POST", "http://127.0.0.1:1/")
        assert (failure, progress.done, fan.responses["call"].status_code) == (None, ["call"], 299)


async def test_answer_of_httpx_own_transport_counts_likewise():
    answer = answering(b"200 OK", AFTER_THE_STATUS["half a gzip"], at_once=True)
    async with served(answer) as (_, url, _own), open_client(Http(proxy=url)) as client:
        fan, progress, failure = await outcome_of(client, "POST", "http://example.org/")
        assert (failure, progress.done) == (None, ["call"])
        with pytest.raises(httpx.DecodingError):
            _ = fan.responses["call"].content


class Elsewhere:
    """Answers what is asked first with a redirect, and what is asked for then as it is told."""

    def __init__(self, status: int, then: bytes, location: bytes = b"/there") -> None:
        self.asked: list[bytes] = []
        self._redirect = b"HTTP/1.1 %d x\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location)
        self._then = then

    async def answer(self, stream: trio.SocketStream) -> None:
        while request := await stream.receive_some(65536):
            self.asked.append(request.partition(b" HTTP")[0])
            if request.startswith(b"POST") or len(self.asked) == 1:
                await stream.send_all(self._redirect)
            else:
                await stream.send_all(self._then)
                await stream.aclose()
                return


FOUND_NOTHING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
FOUND = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere"


@pytest.mark.parametrize(
    "then", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", FOUND_NOTHING, b"HTTP/1.1 503 x\r\n\r\n"]
)
async def test_post_that_was_answered_with_see_other_is_done_whatever_is_to_be_seen_there(then: bytes):
    service = Elsewhere(303, then)
    async with trio.open_nursery() as nursery, open_client(Http()) as client:
        listeners = await nursery.start(trio.serve_tcp, service.answer, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        fan, progress, failure = await outcome_of(client, "POST", url, follow_redirects=True)
        assert (failure, progress.done) == (None, ["call"])
        assert service.asked == [b"POST /", b"GET /there"]
        with pytest.raises(Exception, match=r"."):
            _ = fan.responses["call"].content
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "follows", "then", "done", "asked"),
    [
        (303, True, FOUND, True, 2),
        (302, True, FOUND, True, 2),
        (303, False, FOUND, False, 1),
        (302, True, FOUND_NOTHING, False, 2),
        (307, True, FOUND, False, 21),  # the POST goes elsewhere, and there in circles
    ],
)
async def test_redirects_of_a_post(status: int, follows: bool, then: bytes, done: bool, asked: int):
    service = Elsewhere(status, then)
    async with trio.open_nursery() as nursery, open_client(Http()) as client:
        listeners = await nursery.start(trio.serve_tcp, service.answer, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        fan, progress, failure = await outcome_of(client, "POST", url, follow_redirects=follows)
        assert (failure is None, progress.done == ["call"], len(service.asked)) == (
            done,
            done,
            asked,
        )
        if failure is not None:
            assert failure.permanent
        else:
            response = fan.responses["call"]
            assert (response.text, [each.status_code for each in response.history]) == ("there", [status])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("method", "status", "is_tried_again"),
    [
        *(("GET", status, True) for status in (301, 302, 303, 307, 308)),
        *((method, status, True) for method in ("POST", "PUT", "DELETE") for status in (307, 308)),
        ("POST", 302, False),
    ],
)
async def test_where_a_redirect_leads_to_nobody_that_is_the_failure(method: str, status: int, is_tried_again: bool):
    """A GET is made for what is there; and what a 307 or 308 sends on has changed nothing yet. A POST with another status was answered."""

    async def send_on(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 %d x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n" % status)

    async with trio.open_nursery() as nursery, open_client(Http()) as client:
        listeners = await nursery.start(trio.serve_tcp, send_on, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        _, progress, failure = await outcome_of(client, method, url, follow_redirects=True)
        assert failure is not None
        assert (failure.permanent, "refused" in failure.reason, progress.done) == (
            not is_tried_again,
            is_tried_again,
            [],
        )
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "location", ["http://[::1", "mailto:a@example.com", "data:,x", "/" + "x" * 65_530, "/" + "x" * 70_000, "\x7f"]
)
@pytest.mark.parametrize(
    ("method", "status", "follows", "done"),
    [
        ("POST", 303, True, True),
        ("POST", 302, True, False),
        ("POST", 303, False, False),
        ("POST", 307, True, False),
        ("GET", 302, True, False),
    ],
)
async def test_status_counts_though_its_location_is_none(
    method: str, status: int, follows: bool, done: bool, location: str
):
    service = Elsewhere(status, b"", location.encode())
    async with trio.open_nursery() as nursery, open_client(Http()) as client:
        listeners = await nursery.start(trio.serve_tcp, service.answer, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        _, progress, failure = await outcome_of(client, method, url, follow_redirects=follows, params={"a": "b"})
        assert (failure is None, progress.done == ["call"], service.asked) == (done, done, [f"{method} /?a=b".encode()])
        assert failure is None or (failure.permanent and str(status) in failure.reason)
        nursery.cancel_scope.cancel()


# ── anything at all ────────────────────────────────────────────────────────────────────────────────────────────────────

# fmt: off
PARTS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 500 \r\n", b"HTTP/1.1 999\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"HTTP/1.1 000 x\r\n", b"HTTP/2 200\r\n", b"\r\n", b"\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", CHUNKED, b"Connection: close\r\n", b"Content-Encoding: gzip\r\n", b"Location: /\r\n",
    b"Content-Length: 18446744073709551617\r\n", b"Retry-After: Fri, 31 Dec 99999 23:59:59 GMT\r\n", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n",
    b"FFFFFFFFFFFFFFFFF\r\n", gzip.compress(b"hello"), b"\0", b"\xff\xfe", b": \r\n", b"X: " + b"y" * 70_000 + b"\r\n", b"", b"SSH-2.0-x\r\n",
]
# fmt: on


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_a_server_says_is_answered_in_order_and_nothing_is_left_held(seed: int):
    chance = random.Random(seed)
    said: list[bytes] = []

    async def answer(peer: Peer, stream: trio.SocketStream) -> None:
        data = b"".join(chance.choices(PARTS, k=chance.randint(0, 8)))
        if chance.random() < 0.6:
            data = chance.choice(PARTS[:5]) + data
        if data and chance.random() < 0.3:
            at = chance.randrange(len(data))
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        said.append(data)
        for piece in (data[:7], data[7:]):
            await stream.send_all(piece)
        if chance.random() < 0.8:
            await stream.aclose()

    options = {"timeout": 0.05, "max_response_bytes": 1000, "breaker": None, "limits": {"*": Limit(concurrency=1)}}
    async with served(answer, **options) as (_, url, client):
        for method in ["GET", "POST", "HEAD"] * 8:
            said.clear()
            content = b"x" * chance.choice([0, 10, 100_000])
            _, progress, failure = await outcome_of(client, method, url, content=content)
            assert (failure is None) == (progress.done == ["call"]), said
            assert len(said) <= 1
            assert "0 active" in repr(client._pool)  # type: ignore[attr-defined]
            (governor,) = client._transport._governors.values()  # type: ignore[attr-defined]
            assert (governor._calls, governor._limiter.borrowed_tokens) == (0, 0)
            if method == "POST" and said and said[0].startswith((PARTS[0], PARTS[1])):
                assert progress.done == ["call"], said
